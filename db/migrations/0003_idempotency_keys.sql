-- A payment may carry the key under which its caller may ask for it again. It stands in the payment's own row, so it is
-- stored, and kept, exactly when the payment is.

set local role wallet_owner;

-- collate "C": a key is what its bytes are, and compares fast.
alter table ledger.payment
    add column idempotency_key text collate "C"
        constraint payment_idempotency_key_length check (char_length(idempotency_key) between 1 and 255);
comment on column ledger.payment.idempotency_key is
    'The caller''s name for the request, 1 to 255 characters: under one key there is one payment, for ever.';

-- Partial: a payment without a key costs the index nothing.
create unique index payment_idempotency_key_key on ledger.payment (idempotency_key) where idempotency_key is not null;
comment on index ledger.payment_idempotency_key_key is 'One payment a key, whoever asks, whenever, through whichever instance.';
