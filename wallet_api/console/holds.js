export function holdPage(page) { page.show("Hold"); } export function holdsPage(page) { page.show("Holds"); }
