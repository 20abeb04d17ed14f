export function keysPage(page) { page.show("keys"); }
