-- Times that never go back, whatever the clock of the server does.
--
-- No table is rewritten, and none is read: the new column may be NULL, and is until the account's next payment.

set local role wallet_owner;

alter table ledger.account add column changed_at timestamptz;
comment on column ledger.account.changed_at is
    'When its last payment was made, or when it was opened. NULL: neither has happened since this is recorded.';

-- A sequence, because it is never undone: what was answered within a transaction that is rolled back was answered all
-- the same. And it is changed in place, where a row would leave a version behind for each change.
create sequence ledger.answered_until as bigint minvalue 0 start 0;
comment on sequence ledger.answered_until is
    'Up to which moment the past has been told, in microseconds since 1970. Payments are made after it.';
