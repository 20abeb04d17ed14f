-- migrate: outside a transaction
--
-- What the lists, statements and refunds look payments up by, built while payments go on; and the constraints of 0004,
-- held against the rows that were there before.

drop index concurrently if exists ledger.payment_buyer_idx;
create index concurrently payment_buyer_idx on ledger.payment (buyer_account_id, id);
comment on index ledger.payment_buyer_idx is 'What an account has paid, in order.';

drop index concurrently if exists ledger.payment_seller_idx;
create index concurrently payment_seller_idx on ledger.payment (seller_account_id, id);
comment on index ledger.payment_seller_idx is 'What an account has received, in order.';

drop index concurrently if exists ledger.payment_time_idx;
create index concurrently payment_time_idx on ledger.payment (operation_timestamp, id);
comment on index ledger.payment_time_idx is 'Payments by time.';

drop index concurrently if exists ledger.payment_reference_idx;
create index concurrently payment_reference_idx on ledger.payment (reference, id) where reference is not null;
comment on index ledger.payment_reference_idx is 'Payments by reference, where there is one.';

drop index concurrently if exists ledger.payment_refund_idx;
create index concurrently payment_refund_idx on ledger.payment (refunded_payment_id, id) where refunded_payment_id is not null;
comment on index ledger.payment_refund_idx is 'The refunds of a payment.';

drop index concurrently if exists ledger.payment_hold_key;
create unique index concurrently payment_hold_key on ledger.payment (hold_id) where hold_id is not null;
comment on index ledger.payment_hold_key is 'A hold is captured once.';

drop index concurrently if exists ledger.account_currency_idx;
create index concurrently account_currency_idx on ledger.account (currency_id, id);
comment on index ledger.account_currency_idx is 'Accounts by currency.';

drop index concurrently if exists ledger.account_status_idx;
create index concurrently account_status_idx on ledger.account (status, id) where status <> 'active';
comment on index ledger.account_status_idx is 'Accounts that are not active, by status.';

drop index concurrently if exists ledger.account_name_prefix_idx;
create index concurrently account_name_prefix_idx on ledger.account (name collate "C");
comment on index ledger.account_name_prefix_idx is 'Accounts whose names begin alike.';

alter table ledger.account validate constraint account_currency_scale_fkey;
alter table ledger.account validate constraint account_covered;
