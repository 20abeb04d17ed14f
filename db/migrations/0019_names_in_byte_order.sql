-- Unique indexes whose order is that of bytes, built while payments go on. The order of the ones that 0020 replaces by
-- them is the C library's, whose upgrade may change it: then an index no longer finds what is there, and lets in a
-- second one.

drop index concurrently if exists ledger.account_name_bytes_key;
create unique index concurrently account_name_bytes_key on ledger.account (name collate "C");

drop index concurrently if exists ledger.request_idempotency_bytes_key;
create unique index concurrently request_idempotency_bytes_key on ledger.request (operation collate "C", idempotency_key);
