-- Finds the holds that have expired since anyone locked their accounts, for the feed.

drop index concurrently if exists ledger.hold_expiry_idx;
create index concurrently hold_expiry_idx on ledger.hold (expires_at) where status = 'open';
comment on index ledger.hold_expiry_idx is 'Open holds by the time at which they expire.';
