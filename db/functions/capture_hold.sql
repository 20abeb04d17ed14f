-- wallet.capture_hold(p_hold_id, p_amount, p_idempotency_key, p_api_key_id, p_final, p_up_to, p_balances, p_tenant)
--
-- Captures a hold: pays its amount or a part of it, and releases the rest, or keeps it held for further captures
-- (p_final => false). The captures of a hold together never exceed it. The one that leaves nothing is always the last.
-- The payment has the hold's description, reference and metadata. An API key that is bound to the buyer, and not to the
-- seller, may not capture.
--
-- Returns: the payment, one row; replayed is true if it was made before, otherwise NULL. The balances as in make_payment
-- Locks:   both accounts FOR NO KEY UPDATE, in id order, before it checks the hold, until the transaction ends; captures
--          of one hold take turns
-- Writes:  as make_payment; ledger.hold (what was captured, its end), ledger.account (held)
-- Raises:  refusals of the API key, the idempotency key, the hold and the payment

-- The rules of a capture, in the order in which they are checked. p_request_refusal is the result of _request_refusal.
-- p_up_to is the most that was asked for: p_amount may be less, and its decimals say nothing about those of p_up_to.
create or replace function wallet._capture_refusal(
    p_hold ledger.hold,
    p_amount numeric,
    p_up_to numeric,
    p_left numeric,
    p_scale smallint,
    p_request_refusal text
)
    returns text
    language sql immutable
as $$
    select case
        when wallet._hold_refusal(p_hold) is not null then wallet._hold_refusal(p_hold)
        when p_request_refusal is not null then p_request_refusal
        when (p_amount <= p_left) is not true then 'WB032'
        when (p_up_to is null or min_scale(p_up_to) <= p_scale) is not true then 'WB009'
    end
$$;

comment on function wallet._capture_refusal(ledger.hold, numeric, numeric, numeric, smallint, text) is
    'The rules of a capture of a hold of which p_left is left: the code of the first violated rule, or NULL.';

-- Whether a capture was final is not stored: the hold tells it.
create or replace function wallet._final_refusal(
    p_payment ledger.payment,
    p_final boolean,
    p_left numeric,
    p_hold ledger.hold
)
    returns text
    language sql stable
as $$
    select case
        when (
            p_payment.amount = p_left
            or p_final = (
                p_hold.status = 'captured'
                and p_payment.id = (select capture.id from wallet._last_capture(p_hold.id) as capture)
            )
        ) is not true then 'WK001'
    end
$$;

comment on function wallet._final_refusal(ledger.payment, boolean, numeric, ledger.hold) is
    'Checks that a capture, before which p_left was left of its hold, was final if p_final, or took all that was left: '
    'the code of the refusal, or NULL.';

create or replace function wallet.capture_hold(
    p_hold_id bigint,
    p_amount numeric default null,
    p_idempotency_key text default null,
    p_api_key_id bigint default null,
    p_final boolean default true,
    p_up_to boolean default false,
    p_balances boolean default false,
    p_tenant text default null
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
        replayed boolean,
        metadata jsonb,
        buyer_balance numeric,
        seller_balance numeric
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    -- A cached plan may date from when there were few accounts.
    set enable_seqscan = off
as $$
declare
    v_account_ids bigint[] := wallet._bound_accounts(p_api_key_id, 'pay');
    v_final boolean := coalesce(p_final, true);
    v_up_to numeric := case when p_up_to then p_amount end;
    v_hold ledger.hold;
    v_parties ledger.account[];
    v_buyer ledger.account;
    v_payment ledger.payment;
    v_left numeric;
    v_asked numeric;
    v_amount numeric;
    v_refusal text;
    v_replayed boolean;
begin
    select hold.* into v_hold from ledger.hold as hold where hold.id = p_hold_id;
    v_refusal := wallet._party_refusal(
        v_account_ids, v_hold.seller_account_id, v_hold.buyer_account_id, 'WN003'
    );
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;
    if p_idempotency_key is not null then
        p_idempotency_key := wallet._key_of_tenant(p_idempotency_key, p_api_key_id, p_tenant);
    end if;
    v_parties := wallet._lock_parties(v_hold.buyer_account_id, v_hold.seller_account_id);
    -- Read again after the locks: no other call can capture or end it now.
    select hold.* into v_hold from ledger.hold as hold where hold.id = p_hold_id;

    v_payment := wallet._payment_under(p_idempotency_key);
    v_replayed := case when v_payment.id is not null then true end;
    select v_hold.amount - coalesce(sum(capture.amount), 0) into v_left
    from ledger.payment as capture
    where capture.hold_id = v_hold.id and (capture.id < v_payment.id or v_payment.id is null);
    v_asked := coalesce(p_amount, v_left);
    v_amount := case when v_up_to is null then v_asked else least(v_asked, v_left) end;

    if v_replayed then
        v_refusal := coalesce(
            wallet._key_refusal(
                v_payment, v_hold.buyer_account_id, v_hold.seller_account_id, v_asked, v_hold.description,
                v_hold.reference, p_hold_id => v_hold.id, p_up_to => v_up_to,
                p_metadata => v_hold.metadata
            ),
            wallet._final_refusal(v_payment, v_final, v_left, v_hold)
        );
    else
        v_buyer := v_parties[1];
        v_refusal := wallet._capture_refusal(
            v_hold, v_amount, v_up_to, v_left, v_buyer.currency_scale, wallet._request_refusal(
                v_hold.buyer_account_id, v_hold.seller_account_id, v_asked, null, v_hold.description,
                v_hold.reference, v_hold.metadata
            )
        );
        v_buyer.held := v_buyer.held - v_left;
        v_refusal := coalesce(v_refusal, wallet._parties_refusal(v_amount, v_buyer, v_parties[2]));
    end if;
    if v_refusal is not null then
        perform wallet._refuse(v_refusal);
    end if;

    if v_replayed is not true then
        perform wallet._reduce_hold(
            v_hold, v_amount, case when v_final or v_amount = v_left then 'captured' else 'open' end, p_api_key_id
        );
        v_payment := wallet._write_payment(
            v_buyer, v_parties[2], v_amount, p_idempotency_key, v_hold.description, v_hold.reference,
            p_api_key_id, p_hold_id => v_hold.id, p_up_to => v_up_to, p_metadata => v_hold.metadata
        );
    end if;

    return query
        select
            made.id, made.currency_id, made.amount, made.buyer_account_id, made.seller_account_id,
            made.operation_timestamp, made.description, made.reference, v_payment.hold_id, v_replayed,
            made.metadata, made.buyer_balance, made.seller_balance
        from wallet._payment_row(v_payment, p_balances, p_api_key_id) as made;
end
$$;

comment on function wallet.capture_hold(bigint, numeric, text, bigint, boolean, boolean, boolean, text) is
    'Captures a hold: pays an amount of it (above 0; NULL: all that is left), releases the rest, and returns the '
    'payment. With p_final => false, it keeps the rest held, for further captures. With p_up_to, it pays at most '
    'p_amount, and at most what is left. Under an idempotency key of p_tenant (1 to 255 characters) it takes effect '
    'once; a repeated call returns the same payment with replayed true. If p_balances is true, it returns both '
    'balances after the payment, those that the API key may read.';

grant execute on function wallet.capture_hold(
    bigint, numeric, text, bigint, boolean, boolean, boolean, text
) to wallet_app, wallet_ops;
