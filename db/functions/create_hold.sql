-- wallet.create_hold(p_buyer_account_id, p_seller_account_id, p_amount, p_expires_in, p_idempotency_key, p_description,
--                    p_reference, p_api_key_id)
--
-- Holds an amount of the buyer's for a payment to come: it stays on the buyer's account, and nothing else can be paid or
-- held with it, until the hold is captured or voided, or expires by itself.
--
-- Returns: the hold, one row; replayed is true where it was made before, and else NULL. Then its status is that of now
-- Locks:   both accounts FOR NO KEY UPDATE, in id order, before it looks at them, until the transaction ends
-- Writes:  ledger.hold (one row, and what has expired of the accounts), ledger.account (what is held)
-- Raises:  WA001 no such API key, WF001 not its scope, WF002 not the buyer's; WB008 no key, WK002 the key belongs to
--          another hold, WB031 no such time; and what the payment would be refused for now: WB001 to self, WB002 not
--          positive, WB003 not an amount, WB016 no description, WB017 no reference, WB004 no such account, WB005
--          currencies differ, WB009 too many decimals for the currency, WB010 buyer frozen, WB014 buyer closed, WB015
--          seller closed, WB006 buyer has too little, WB007 seller would have too much

create or replace function wallet._hold_key_refusal(
    p_hold ledger.hold,
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_amount numeric,
    p_expires_in bigint,
    p_description text,
    p_reference text
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
        ) is not true then 'WK002'
    end
$$;

comment on function wallet._hold_key_refusal(ledger.hold, bigint, bigint, numeric, bigint, text, text) is
    'Whether the hold that was made under a key is the one asked for now: the code of the refusal, or NULL.';

create or replace function wallet.create_hold(
    p_buyer_account_id bigint,
    p_seller_account_id bigint,
    p_amount numeric,
    p_expires_in bigint default 604800,
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
        expires_at timestamptz,
        status text,
        payment_id bigint,
        captured_amount numeric,
        description text,
        reference text,
        made_by text,
        ended_by text,
        replayed boolean
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    -- A plan is made once a session, perhaps when there are few accounts.
    set enable_seqscan = off
as $$
declare
    v_now timestamptz;
    v_refusal text := coalesce(
        wallet._request_refusal(
            p_buyer_account_id, p_seller_account_id, p_amount, p_idempotency_key, p_description, p_reference
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

    -- After the locks: whoever makes the same hold has them until it is there to be seen.
    if p_idempotency_key is not null then
        select hold.* into v_hold from ledger.hold as hold where hold.idempotency_key = p_idempotency_key;
    end if;
    if v_hold.id is not null then
        replayed := true;
        v_refusal := wallet._hold_key_refusal(
            v_hold, p_buyer_account_id, p_seller_account_id, p_amount, p_expires_in, p_description, p_reference
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
            idempotency_key, description, reference, api_key_id
        )
        values (
            v_parties[1].currency_id, p_buyer_account_id, p_seller_account_id, trim_scale(p_amount), v_now,
            v_now + p_expires_in * interval '1 second', p_idempotency_key, p_description, p_reference, p_api_key_id
        )
        on conflict (idempotency_key) where idempotency_key is not null do nothing
        returning hold.* into v_hold;
        -- Somebody made a hold of other accounts, which we have not locked, under this key, at this moment.
        if v_hold.id is null then
            perform wallet._refuse('WK002');
        end if;
        perform wallet._change_held(v_hold.buyer_account_id, v_hold.amount);
    end if;

    return query select hold.*, replayed from wallet.get_hold(v_hold.id) as hold;
end
$$;

comment on function wallet.create_hold(bigint, bigint, numeric, bigint, text, text, text, bigint) is
    'Holds an amount (as make_payment''s) on the buyer''s account for a payment to the seller, for so many seconds (1 to '
    '31536000, by default a week), and returns the hold; or raises the refusal: WB001 to WB010, WB014 to WB017, WB031, '
    'WK002. Under an idempotency key (1 to 255 characters) it is made once; asked for again, it is returned as it is now, '
    'with replayed true.';

grant execute on function wallet.create_hold(bigint, bigint, numeric, bigint, text, text, text, bigint) to wallet_app, wallet_ops;
