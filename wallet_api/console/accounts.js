export function accountsPage(page) { page.show("accounts"); }
