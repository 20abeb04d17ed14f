-- wallet.set_currency_scale(p_currency_id, p_scale, p_idempotency_key, p_api_key_id, p_tenant)
--
-- Sets a currency's scale, the number of decimals that its amounts may have. A larger scale is always allowed; a smaller
-- one if no stored amount of the currency has more decimals.
--
-- Each account has a copy of the scale, so that a payment finds it in the row that it locks. So the currency's payments,
-- holds and changes of accounts wait until the call is done: it locks and writes each account and, for a smaller scale,
-- reads the currency's holds and payments. Those that come first count; those that waited find the new scale.
--
-- Returns: the currency, one row; replayed is true if the call was made before, under the same idempotency key, and the
--          currency is then as it was after that call; otherwise replayed is NULL
-- Locks:   the currency FOR UPDATE, so that no account of it is created; then its accounts FOR NO KEY UPDATE, in id
--          order, before it checks their amounts; until the transaction ends. Nothing if the scale is refused or the same
-- Writes:  ledger.currency (scale), ledger.account (its copies) and ledger.currency_change (one row), if it changes;
--          ledger.request (one row, under a key)
-- Raises:  refusals of the API key (also if it is bound to accounts), the idempotency key and the scale; no such
--          currency; amounts with more decimals

create or replace function wallet._scale_refusal(p_currency ledger.currency, p_scale bigint, p_decimals integer)
    returns text
    language sql immutable
as $$
    select case
        when (p_scale between 0 and 15) is not true then 'WB052'
        when (p_currency.id is not null) is not true then 'WN005'
        when (p_scale >= p_currency.scale or p_scale >= p_decimals) is not true then 'WC052'
    end
$$;

comment on function wallet._scale_refusal(ledger.currency, bigint, integer) is
    'The rules of a new scale of a currency whose amounts have up to p_decimals: the code of the first violated rule, or '
    'NULL.';

-- Balances after payments follow from the opening balances and the amounts. Maxima are planned to read everything;
-- "exists" would be planned to find something soon.
create or replace function wallet._decimals_in_use(p_currency_id bigint)
    returns integer
    language plpgsql stable
as $$
begin
    return greatest(
        0,
        (
            select max(greatest(
                min_scale(account.opening_balance), min_scale(account.balance), min_scale(account.credit_limit),
                min_scale(account.held)
            ))
            from ledger.account as account
            where account.currency_id = p_currency_id
        ),
        (
            select max(min_scale(change.credit_limit))
            from ledger.account as account
            join ledger.account_change as change on change.account_id = account.id
            where account.currency_id = p_currency_id
        ),
        (select max(min_scale(hold.amount)) from ledger.hold as hold where hold.currency_id = p_currency_id),
        (
            select max(min_scale(payment.amount))
            from ledger.account as account
            join ledger.payment as payment on payment.buyer_account_id = account.id
            where account.currency_id = p_currency_id
        )
    );
end
$$;

comment on function wallet._decimals_in_use(bigint) is
    'The most decimals that a stored amount of the currency has, past credit limits and ended holds included.';

create or replace function wallet.set_currency_scale(
    p_currency_id bigint,
    p_scale bigint,
    p_idempotency_key text default null,
    p_api_key_id bigint default null,
    p_tenant text default null
)
    returns table (id bigint, name text, scale bigint, replayed boolean)
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_currency ledger.currency;
    v_refusal text;
begin
    perform wallet._allow(p_api_key_id, 'admin', null);
    if p_idempotency_key is not null then
        p_idempotency_key := wallet._key_of_tenant(p_idempotency_key, p_api_key_id, p_tenant);
    end if;
    replayed := nullif(wallet._request_first_answer(
        'set_currency_scale', p_idempotency_key, jsonb_build_array(p_currency_id, p_scale), p_api_key_id
    ) is not null, false);
    select currency.* into v_currency from ledger.currency as currency where currency.id = p_currency_id;

    if replayed is null then
        -- Most refusals lock nothing, and the accounts are locked for a shorter time if what is read is in memory by then.
        v_refusal := wallet._scale_refusal(
            v_currency, p_scale,
            case when p_scale < v_currency.scale then wallet._decimals_in_use(v_currency.id) else 0 end
        );
        if v_refusal is null and p_scale <> v_currency.scale then
            select currency.* into v_currency
            from ledger.currency as currency where currency.id = p_currency_id for update;
            perform count(*)
            from (
                select account.id
                from ledger.account as account where account.currency_id = v_currency.id
                order by account.id
                for no key update
            ) as locked;
            -- A new statement after the locks: it sees the amounts of earlier lock holders.
            v_refusal := wallet._scale_refusal(
                v_currency, p_scale,
                case when p_scale < v_currency.scale then wallet._decimals_in_use(v_currency.id) else 0 end
            );
        end if;
        if v_refusal is not null then
            perform wallet._refuse(v_refusal);
        end if;
        if p_scale <> v_currency.scale then
            -- One statement, after which the foreign key compares the accounts with their currency.
            with changed as (
                update ledger.currency as currency set scale = p_scale where currency.id = v_currency.id
            )
            update ledger.account as account set currency_scale = p_scale where account.currency_id = v_currency.id;
            insert into ledger.currency_change (currency_id, scale, api_key_id)
            values (v_currency.id, p_scale, p_api_key_id);
        end if;
        perform wallet._request_keep_answer('set_currency_scale', p_idempotency_key, jsonb '{}');
    end if;

    id := v_currency.id;
    name := v_currency.name;
    scale := p_scale;
    return next;
end
$$;

comment on function wallet.set_currency_scale(bigint, bigint, text, bigint, text) is
    'Sets a currency''s scale, the number of decimals that its amounts may have (0 to 15), if no stored amount has '
    'more, and returns the currency. Its payments wait meanwhile. Under an idempotency key of p_tenant (1 to 255 '
    'characters) it takes effect once; a repeated call returns the same answer with replayed true.';

grant execute on function wallet.set_currency_scale(bigint, bigint, text, bigint, text) to wallet_app, wallet_ops;
