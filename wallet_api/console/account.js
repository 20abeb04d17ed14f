export function accountPage(page) { page.show("account"); }
