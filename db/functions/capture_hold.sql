-- wallet.capture_hold(p_hold_id, p_amount, p_idempotency_key, p_api_key_id)
--
-- Makes the payment that a hold was for, of all that it holds or of a part; the rest is free again. The payment has the
-- hold's description and reference.
--
-- Returns: the payment, one row; replayed is true where it was made before, and else NULL
-- Locks:   both accounts FOR NO KEY UPDATE, in id order, before it looks at the hold, until the transaction ends
-- Writes:  as make_payment; ledger.hold (its end), ledger.account (what is held)
-- Raises:  WA001 no such API key, WF001 not its scope, WN003 no such hold, or none of its accounts', WF002 not the
--          buyer's; WB008 no key, WK001 the key belongs to another payment; it ends once: WC031 was captured,
--          WC032 was voided, WC033 has expired; WB002 not positive, WB003 not an amount, WB032 more than it holds; and
--          what a payment is refused for: WB001, WB004, WB005, WB016, WB017 (which cannot be), WB009 too many decimals
--          for the currency, WB010 buyer frozen, WB014 buyer closed, WB015 seller closed, WB006 buyer has too little,
--          WB007 seller would have too much

create or replace function wallet._capture_refusal(p_hold ledger.hold, p_amount numeric, p_request_refusal text)
    returns text
    language sql immutable
as $$
    select case
        when p_request_refusal = 'WB008' then p_request_refusal
        when wallet._hold_refusal(p_hold) is not null then wallet._hold_refusal(p_hold)
        when p_request_refusal is not null then p_request_refusal
        when (p_amount <= p_hold.amount) is not true then 'WB032'
    end
$$;

comment on function wallet._capture_refusal(ledger.hold, numeric, text) is
    'The rules of a capture, among which those of any request have their place: the code of the first one that refuses '
    'it, or NULL.';

create or replace function wallet.capture_hold(
    p_hold_id bigint,
    p_amount numeric default null,
    p_idempotency_key text default null,
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
        hold_id bigint,
        replayed boolean
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    -- A plan is made once a session, perhaps when there are few accounts.
    set enable_seqscan = off
as $$
declare
    v_account_ids bigint[] := wallet._bound_accounts(p_api_key_id, 'pay');
    v_hold ledger.hold;
    v_parties ledger.account[];
    v_buyer ledger.account;
    v_payment ledger.payment;
    v_amount numeric;
    v_refusal text;
begin
    select hold.* into v_hold from ledger.hold as hold where hold.id = p_hold_id;
    v_refusal := wallet._payer_refusal(
        v_account_ids, v_hold.buyer_account_id, v_hold.seller_account_id, 'WN003'
    );
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;
    v_parties := wallet._lock_parties(v_hold.buyer_account_id, v_hold.seller_account_id);
    -- as it is now that nobody else can end it
    select hold.* into v_hold from ledger.hold as hold where hold.id = p_hold_id;
    v_amount := coalesce(p_amount, v_hold.amount);

    v_payment := wallet._payment_under(p_idempotency_key);
    if v_payment.id is not null then
        replayed := true;
        v_refusal := wallet._key_refusal(
            v_payment, v_hold.buyer_account_id, v_hold.seller_account_id, v_amount, v_hold.description,
            v_hold.reference, p_hold_id => v_hold.id
        );
    else
        v_refusal := wallet._capture_refusal(v_hold, v_amount, wallet._request_refusal(
            v_hold.buyer_account_id, v_hold.seller_account_id, v_amount, p_idempotency_key, v_hold.description,
            v_hold.reference
        ));
        v_buyer := v_parties[1];
        v_buyer.held := v_buyer.held - v_hold.amount;
        v_refusal := coalesce(v_refusal, wallet._parties_refusal(v_amount, v_buyer, v_parties[2]));
    end if;
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;

    if replayed is not true then
        perform wallet._end_hold(v_hold, 'captured', p_api_key_id);
        v_payment := wallet._write_payment(
            v_buyer, v_parties[2], v_amount, p_idempotency_key, v_hold.description, v_hold.reference,
            p_api_key_id, p_hold_id => v_hold.id
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
    hold_id := v_payment.hold_id;
    return next;
end
$$;

comment on function wallet.capture_hold(bigint, numeric, text, bigint) is
    'Pays what a hold holds, or a part of it (above 0), frees the rest, and returns the payment; or raises the refusal: '
    'WB032, WC031 to WC033, WN003, and what make_payment raises. Under an idempotency key (1 to 255 characters) it is '
    'made once; asked for again, it is returned with replayed true.';

grant execute on function wallet.capture_hold(bigint, numeric, text, bigint) to wallet_app, wallet_ops;
