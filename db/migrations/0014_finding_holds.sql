-- What list_holds looks holds up by, built while payments and holds go on. A hold has at most four entries more, and as
-- many when it ends; payments have none.

drop index concurrently if exists ledger.hold_reference_idx;
create index concurrently hold_reference_idx on ledger.hold (reference, id) where reference is not null;
comment on index ledger.hold_reference_idx is 'Holds by reference, where there is one.';

drop index concurrently if exists ledger.hold_buyer_idx;
create index concurrently hold_buyer_idx on ledger.hold (buyer_account_id, status, id);
comment on index ledger.hold_buyer_idx is 'The holds on an account''s money by status, in order.';

drop index concurrently if exists ledger.hold_seller_idx;
create index concurrently hold_seller_idx on ledger.hold (seller_account_id, status, id);
comment on index ledger.hold_seller_idx is 'The holds for an account by status, in order.';

drop index concurrently if exists ledger.hold_status_idx;
create index concurrently hold_status_idx on ledger.hold (status, id);
comment on index ledger.hold_status_idx is 'Holds by status, in order.';
