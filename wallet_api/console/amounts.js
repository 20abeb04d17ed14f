/* Amounts are decimal texts of up to 30 digits. Binary fractions cannot hold them, so they stay texts: nothing here
 * turns an amount into a number to show it. */

const DECIMALS = 15;

/** An amount in units of its 15th decimal. Undefined if the text is no plain decimal. */
function units(text) {
  const match = /^([+-]?)(\d+)(?:\.(\d*))?$/.exec(text);
  if (!match || (match[3] ?? "").length > DECIMALS) return undefined;
  const value = BigInt(match[2] + (match[3] ?? "").padEnd(DECIMALS, "0"));
  return match[1] === "-" ? -value : value;
}

function text(value) {
  const digits = (value < 0n ? -value : value).toString().padStart(DECIMALS + 1, "0");
  const whole = digits.slice(0, -DECIMALS);
  const decimals = digits.slice(-DECIMALS).replace(/0+$/, "");
  return (value < 0n ? "-" : "") + whole + (decimals && `.${decimals}`);
}

/** The exact difference of two amounts. */
export const subtract = (a, b) => text(units(a) - units(b));

/** Below, equal to or above 0, as a comparison for sort(). */
export function compare(a, b) {
  const difference = units(a) - units(b);
  return difference < 0n ? -1 : Number(difference > 0n);
}

/** How many decimals the longest of these amounts has. */
export const mostDecimals = (amounts) => Math.max(0, ...amounts.map((amount) => (amount?.split(".")[1] ?? "").length));

/** What an amount lacks to end where one with so many decimals ends: an invisible ".00" that keeps points aligned. */
export function padding(amount, decimals) {
  const [, own = ""] = amount.split(".");
  return (own === "" && decimals > 0 ? "." : "") + "0".repeat(Math.max(0, decimals - own.length));
}
