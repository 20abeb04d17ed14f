export function paymentPage(page) { page.show("Payment"); } export function paymentsPage(page) { page.show("Payments"); }
