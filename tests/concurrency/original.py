"""The original service's own test of concurrency, over HTTP and by SQL.

One account with 500 USD, one with 600 RUB, 97 more with nothing, in alternating currencies; 100 clients of 100
payments each, of random amounts below 10.00 between random accounts. Afterwards there are 500 USD and 600 RUB.
"""

from collections.abc import Callable, Iterator
from random import Random

USD, RUB = 1, 2
CLIENTS, PAYMENTS = 100, 100

# The only outcomes: the payment is made, or refused for itself, its amount, its currencies or the buyer's balance.
ALLOWED = {"paid", "WB001", "WB002", "WB005", "WB006"}


def open_accounts(create: Callable[[str, str, int], int]) -> list[int]:
    """Creates the accounts with `create(name, amount, currency id)` and returns their ids."""
    accounts = [create("the dollars", "500", USD), create("the roubles", "600", RUB)]
    return accounts + [create(f"nothing {number}", "0", (USD, RUB)[number % 2]) for number in range(97)]


def random_payments(random: Random, accounts: list[int]) -> Iterator[tuple[int, int, str]]:
    """The payments of one client: buyer, seller, amount."""
    for _ in range(PAYMENTS):
        yield random.choice(accounts), random.choice(accounts), f"{random.randrange(1000) / 100:.2f}"
