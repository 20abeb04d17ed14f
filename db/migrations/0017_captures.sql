-- Finds the captures of a hold, which can be several, and validates the constraints of 0016, while payments go on.

drop index concurrently if exists ledger.payment_hold_idx;
create index concurrently payment_hold_idx on ledger.payment (hold_id, id) where hold_id is not null;
comment on index ledger.payment_hold_idx is 'The captures of a hold.';
alter table ledger.hold validate constraint hold_captured_at_most;
alter table ledger.hold validate constraint hold_idempotency_key_length;
alter table ledger.payment validate constraint payment_idempotency_key_length;
alter table ledger.request validate constraint request_idempotency_key_length;
