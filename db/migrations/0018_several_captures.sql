-- A hold can be captured more than once: trigger payment_true keeps its captures from exceeding it.

set local role wallet_owner;

drop index ledger.payment_hold_key;
