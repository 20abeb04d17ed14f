-- wallet.create_hold(p_buyer_account_id, p_seller_account_id, p_amount, p_expires_in, p_idempotency_key, p_description,
--                    p_reference, p_api_key_id, p_buyer_may_void, p_metadata, p_tenant)
--
-- Holds an amount on the buyer's account for a later payment. The amount stays on the account, but no other payment or
-- hold can use it until the hold is captured or voided, or expires. API keys that are bound to the buyer may not capture
-- it, and may void it only with p_buyer_may_void.
--
-- Returns: the hold, one row; replayed is true if it was made before, otherwise NULL. A replayed hold has its present
--          status
-- Locks:   both accounts FOR NO KEY UPDATE, in id order, before it checks them, until the transaction ends
-- Writes:  ledger.hold (one row, and expired holds of the accounts), ledger.account (held)
-- Raises:  refusals of the API key, the idempotency key and the expiry, and those that make_payment
--          would raise for the same payment now

create or replace function wallet._hold_key_refusal(
    p_hold ledger.hold,
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_amount numeric,
    p_expires_in bigint,
    p_description text,
    p_reference text,
    p_buyer_may_void boolean,
    p_metadata jsonb
)
    returns text
    language sql immutable
as $$
    select case
        when (
            p_buyer_account_id = p_hold.buyer_account_id
            and p_seller_account_id = p_hold.seller_account_id
            and p_amount = p_hold.amount
            and p_expires_in = extract(epoch from p_hold.expires_at - p_hold.operation_timestamp)
            and p_description is not distinct from p_hold.description
            and p_reference is not distinct from p_hold.reference
            and coalesce(p_buyer_may_void, false) = coalesce(p_hold.buyer_may_void, false)
            and p_metadata is not distinct from p_hold.metadata
        ) is not true then 'WK002'
    end
$$;

comment on function wallet._hold_key_refusal(
    ledger.hold, bigint, bigint, numeric, bigint, text, text, boolean, jsonb
) is
    'Checks that the hold made under a key is the one requested now: the code of the refusal, or NULL.';

create or replace function wallet.create_hold(
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_amount numeric,
    p_expires_in bigint default 604800,
    p_idempotency_key text default null,
    p_description text default null,
    p_reference text default null,
    p_api_key_id bigint default null,
    p_buyer_may_void boolean default null,
    p_metadata jsonb default null,
    p_tenant text default null
)
    returns table (
        id bigint,
        currency_id bigint,
        amount numeric,
        buyer_account_id bigint,
        seller_account_id bigint,
        operation_timestamp timestamptz,
        expires_at timestamptz,
        status text,
        payment_id bigint,
        captured_amount numeric,
        description text,
        reference text,
        made_by text,
        ended_by text,
        buyer_may_void boolean,
        metadata jsonb,
        replayed boolean
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    -- A cached plan may date from when there were few accounts.
    set enable_seqscan = off
as $$
declare
    v_now timestamptz;
    v_refusal text := coalesce(
        wallet._request_refusal(
            p_buyer_account_id, p_seller_account_id, p_amount, p_idempotency_key, p_description, p_reference,
            p_metadata
        ),
        case when (p_expires_in between 1 and 31536000) is not true then 'WB031' end
    );
    v_parties ledger.account[];
    v_hold ledger.hold;
begin
    perform wallet._allow(p_api_key_id, 'pay', p_buyer_account_id);
    if v_refusal is null then
        v_parties := wallet._lock_parties(p_buyer_account_id, p_seller_account_id);
    end if;

    -- After the locks: another call for the same hold keeps them until that hold is visible.
    if p_idempotency_key is not null then
        p_idempotency_key := wallet._key_of_tenant(p_idempotency_key, p_api_key_id, p_tenant);
        select hold.* into v_hold from ledger.hold as hold where hold.idempotency_key = p_idempotency_key;
    end if;
    if v_hold.id is not null then
        replayed := true;
        v_refusal := wallet._hold_key_refusal(
            v_hold, p_buyer_account_id, p_seller_account_id, p_amount, p_expires_in, p_description, p_reference,
            p_buyer_may_void, p_metadata
        );
    elsif v_refusal is null then
        v_refusal := wallet._parties_refusal(p_amount, v_parties[1], v_parties[2]);
    end if;
    if v_refusal is not null then
        perform wallet._refuse(v_refusal, wallet._party_to_blame(v_refusal, (v_parties[1]).id is not null));
    end if;

    if replayed is not true then
        v_now := clock_timestamp();
        insert into ledger.hold as hold (
            currency_id, buyer_account_id, seller_account_id, amount, operation_timestamp, expires_at,
            idempotency_key, description, reference, api_key_id, buyer_may_void, metadata
        )
        values (
            v_parties[1].currency_id, p_buyer_account_id, p_seller_account_id, trim_scale(p_amount), v_now,
            v_now + p_expires_in * interval '1 second', p_idempotency_key, p_description, p_reference, p_api_key_id,
            nullif(p_buyer_may_void, false), p_metadata
        )
        on conflict (idempotency_key) where idempotency_key is not null do nothing
        returning hold.* into v_hold;
        -- A concurrent call, which has locked other accounts, has used the key.
        if v_hold.id is null then
            perform wallet._refuse('WK002');
        end if;
        perform wallet._add_to_held(v_hold.buyer_account_id, v_hold.amount);
    end if;

    return query select hold.*, replayed from wallet.get_hold(v_hold.id) as hold;
end
$$;

comment on function wallet.create_hold(
    bigint, bigint, numeric, bigint, text, text, text, bigint, boolean, jsonb, text
) is
    'Holds an amount (as in make_payment) on the buyer''s account for a payment to the seller, for p_expires_in seconds '
    '(1 to 31536000; default: a week), and returns the hold. p_buyer_may_void: API keys that are bound to the buyer '
    'may void it. p_metadata is that of the captures, too. Under an idempotency key of p_tenant (1 to 255 characters) '
    'it takes effect once; a repeated call returns the hold in its present state, with replayed true.';

grant execute on function wallet.create_hold(
    bigint, bigint, numeric, bigint, text, text, text, bigint, boolean, jsonb, text
) to wallet_app, wallet_ops;
