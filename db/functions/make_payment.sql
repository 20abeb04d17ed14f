-- wallet.make_payment(p_buyer_account_id, p_seller_account_id, p_amount, p_idempotency_key, p_description, p_reference,
--                     p_api_key_id)
--
-- Makes one payment: the buyer loses the amount, the seller gains it. All or nothing. Under a key, it is made once,
-- however often it is asked for: who asks again gets the payment that was made, and nothing moves.
--
-- Returns: the payment, one row; replayed is true where it was made before, and else NULL
-- Locks:   both accounts FOR NO KEY UPDATE, in id order, before it looks at them, until the transaction ends
-- Writes:  ledger.payment (one row), ledger.account (two balances); ledger.hold (what has expired of the accounts)
-- Raises:  WA001 no such API key, WF001 not its scope, WF002 not the buyer's; WB008 no key, WK001 the key belongs to
--          another payment, WB001 to self, WB002 not positive, WB003 not an amount, WB016 no description, WB017 no
--          reference, WB004 no such account, WB005 currencies differ, WB009 too many decimals for the currency, WB010
--          buyer frozen, WB014 buyer closed, WB015 seller closed, WB006 buyer has too little, WB007 seller would have
--          too much
-- Roles:   wallet_app, wallet_ops

create or replace function wallet.make_payment(
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_amount numeric,
    p_idempotency_key text default null,
    p_description text default null,
    p_reference text default null,
    p_api_key_id bigint default null
)
    returns table (
        id bigint,
        currency_id bigint,
        amount numeric,
        buyer_account_id bigint,
        seller_account_id bigint,
        operation_timestamp timestamptz,
        description text,
        reference text,
        replayed boolean
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_refusal text := wallet._request_refusal(
        p_buyer_account_id, p_seller_account_id, p_amount, p_idempotency_key, p_description, p_reference
    );
    v_parties ledger.account[];
    v_payment ledger.payment;
begin
    perform wallet._allow(p_api_key_id, 'pay', p_buyer_account_id);
    if v_refusal is null then
        v_parties := wallet._lock_parties(p_buyer_account_id, p_seller_account_id);
    end if;

    -- After the locks: whoever makes the same payment holds them until it is there to be seen.
    v_payment := wallet._payment_under(p_idempotency_key);
    if v_payment.id is not null then
        replayed := true;
        v_refusal := wallet._key_refusal(
            v_payment, p_buyer_account_id, p_seller_account_id, p_amount, p_description, p_reference
        );
    elsif v_refusal is null then
        v_refusal := wallet._parties_refusal(p_amount, v_parties[1], v_parties[2]);
    end if;
    if v_refusal is not null then
        perform wallet._refuse(v_refusal, wallet._party_to_blame(v_refusal, (v_parties[1]).id is not null));
    end if;

    if replayed is not true then
        v_payment := wallet._write_payment(
            v_parties[1], v_parties[2], p_amount, p_idempotency_key, p_description, p_reference, p_api_key_id
        );
    end if;

    id := v_payment.id;
    currency_id := v_payment.currency_id;
    amount := v_payment.amount;
    buyer_account_id := v_payment.buyer_account_id;
    seller_account_id := v_payment.seller_account_id;
    operation_timestamp := v_payment.operation_timestamp;
    description := v_payment.description;
    reference := v_payment.reference;
    return next;
end
$$;

comment on function wallet.make_payment(bigint, bigint, numeric, text, text, text, bigint) is
    'Makes one payment of an amount (above 0, at most 15 integer digits and 15 decimals, no more than the currency has) '
    'from the buyer''s account to the seller''s, of the same currency, and returns it; or raises the refusal: WB001 to '
    'WB010, WB014 to WB017, WK001. Under an idempotency key (1 to 255 characters) it is made once; asked for again, it '
    'is returned with replayed true. It may have a description and a reference, each of 1 to 255 characters.';
