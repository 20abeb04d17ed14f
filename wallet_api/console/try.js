export function tryPage(page) { page.show("try"); }
