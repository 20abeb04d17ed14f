-- Recorded checks also count the payments, so that the totals need not read all of them: see wallet.record_ledger_check().

set local role wallet_owner;

alter table ledger.ledger_check
    add column drawn_payment_id bigint,
    add column xid xid8,
    add column counted_until_id bigint,
    add column payment_counts jsonb;
comment on column ledger.ledger_check.drawn_payment_id is
    'The highest payment id that was drawn before this transaction took its id; NULL: not noted.';
comment on column ledger.ledger_check.xid is
    'That id. Once all transactions with lower ids have ended, no payment is added up to drawn_payment_id.';
comment on column ledger.ledger_check.counted_until_id is
    'The id up to which payments were counted: that of an earlier check; NULL: not counted.';
comment on column ledger.ledger_check.payment_counts is
    'How many payments there are up to that id, by currency id.';
