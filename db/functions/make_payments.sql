-- wallet.make_payments(p_buyer_account_ids, p_seller_account_ids, p_amounts, p_atomic, p_wait, p_idempotency_keys,
--                      p_descriptions, p_references, p_api_key_ids, p_api_key_id, p_idempotency_key, p_up_to,
--                      p_metadata, p_balances, p_tenant)
--
-- Makes many payments, with the outcomes that calls of make_payment would have, one after another. The n-th payment is
-- the n-th element of each array. A refused payment does not stop the others; but if p_atomic is true, the first
-- refusal is raised, and no payment is made. If p_wait is false, a payment with an account that another transaction has
-- locked is not made. For a key that was used before, also earlier in this call, the payment made under it is returned.
-- Each payment may have its own API key. Or one API key (p_api_key_id) acts for all, and all are refused if it is
-- invalid or lacks the scope. An idempotency key is that of the API key's tenant or, without an API key, of p_tenant.
--
-- The whole call may have an idempotency key, too: a repeated call returns the same outcomes, refusals included.
--
-- Returns: a row for each payment, in order: the payment, with replayed true if it was made before, otherwise NULL; or
--          error_code, error and error_field (the argument to blame, NULL if no single one is), and all else NULL
-- Locks:   the accounts of all payments that need them, FOR NO KEY UPDATE, in id order, before it checks them, until
--          the transaction ends
-- Writes:  ledger.payment (a row for each payment made), ledger.account (a balance for each account that changed);
--          ledger.hold (expired holds of the accounts); ledger.request (one row, if the call has a key)
-- Raises:  22023 if the arrays differ in length, one of the first three is NULL, or p_idempotency_key is given and
--          p_wait is false; 40001 if a concurrent call makes another payment under one of the keys; refusals of
--          p_api_key_id, p_idempotency_key and, if there are keys, p_tenant. Refusals of payments, and 55P03 for a locked
--          account if p_wait is false, are returned as error_code, or, if p_atomic is true, raised with DETAIL
--          "Index: n", counted from 0

create or replace function wallet._outcomes_in_answer(p_answer jsonb, p_balances boolean[], p_api_key_ids bigint[])
    returns table (
        id bigint,
        currency_id bigint,
        amount numeric,
        buyer_account_id bigint,
        seller_account_id bigint,
        operation_timestamp timestamptz,
        description text,
        reference text,
        replayed boolean,
        error_code text,
        error text,
        error_field text,
        metadata jsonb,
        buyer_balance numeric,
        seller_balance numeric
    )
    language sql stable
as $$
    select
        payment.id, payment.currency_id, payment.amount::numeric, payment.buyer_account_id, payment.seller_account_id,
        payment.operation_timestamp, payment.description, payment.reference, true,
        outcome.kept ->> 'code', wallet._refusals() -> (outcome.kept ->> 'code') ->> 'message', outcome.kept ->> 'field',
        payment.metadata,
        case when request.balances
            then wallet._balance_for(request.api_key_id, payment.buyer_account_id, payment.buyer_balance) end,
        case when request.balances
            then wallet._balance_for(request.api_key_id, payment.seller_account_id, payment.seller_balance) end
    from jsonb_array_elements(p_answer) with ordinality as outcome (kept, number)
    left join unnest(p_balances, p_api_key_ids) with ordinality as request (balances, api_key_id, number)
        on request.number = outcome.number
    left join ledger.payment as payment on payment.id = (outcome.kept ->> 'id')::bigint
    order by outcome.number
$$;

comment on function wallet._outcomes_in_answer(jsonb, boolean[], bigint[]) is
    'The outcomes in a stored answer of make_payments, which has the id of each payment, or code and field of its '
    'refusal.';

create or replace function wallet._are_of_one_length(
    p_buyer_account_ids bigint[],
    p_seller_account_ids bigint[],
    p_amounts numeric[],
    p_idempotency_keys text[],
    p_descriptions text[],
    p_references text[],
    p_api_key_ids bigint[],
    p_up_to boolean[],
    p_metadata jsonb[],
    p_balances boolean[]
)
    returns boolean
    language sql immutable
as $$
    select cardinality(p_amounts) = all (array[
        cardinality(p_buyer_account_ids),
        cardinality(p_seller_account_ids),
        coalesce(cardinality(p_idempotency_keys), cardinality(p_amounts)),
        coalesce(cardinality(p_descriptions), cardinality(p_amounts)),
        coalesce(cardinality(p_references), cardinality(p_amounts)),
        coalesce(cardinality(p_api_key_ids), cardinality(p_amounts)),
        coalesce(cardinality(p_up_to), cardinality(p_amounts)),
        coalesce(cardinality(p_metadata), cardinality(p_amounts)),
        coalesce(cardinality(p_balances), cardinality(p_amounts))
    ])
$$;

comment on function wallet._are_of_one_length(
    bigint[], bigint[], numeric[], text[], text[], text[], bigint[], boolean[], jsonb[], boolean[]
) is
    'Whether the arrays of a batch have one length; only the first three may not be NULL.';

-- A refusal rolls back this function only.
create or replace function wallet._pay_alone(
    p_buyer_account_ids bigint[],
    p_seller_account_ids bigint[],
    p_amounts numeric[],
    p_idempotency_keys text[],
    p_descriptions text[],
    p_references text[],
    p_api_key_ids bigint[],
    p_up_to boolean[],
    p_metadata jsonb[],
    p_balances boolean[]
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
        replayed boolean,
        error_code text,
        error text,
        error_field text,
        metadata jsonb,
        buyer_balance numeric,
        seller_balance numeric
    )
    language plpgsql
as $$
begin
    return query
        select
            made.id, made.currency_id, made.amount, made.buyer_account_id, made.seller_account_id,
            made.operation_timestamp, made.description, made.reference, made.replayed,
            null::text, null::text, null::text, made.metadata, made.buyer_balance, made.seller_balance
        from unnest(
            p_buyer_account_ids, p_seller_account_ids, p_amounts, p_idempotency_keys, p_descriptions, p_references,
            p_api_key_ids, p_up_to, p_metadata, p_balances
        ) as request (
            buyer_account_id, seller_account_id, amount, idempotency_key, description, reference, api_key_id, up_to,
            metadata, balances
        )
        cross join wallet.make_payment(
            request.buyer_account_id, request.seller_account_id, request.amount, request.idempotency_key,
            request.description, request.reference, request.api_key_id, request.up_to, request.metadata,
            request.balances
        ) as made;
exception when others then
    if (sqlstate like 'W%') is not true then
        raise;
    end if;
    get stacked diagnostics error_field = column_name;
    error_code := sqlstate;
    error := sqlerrm;
    error_field := nullif(error_field, '');
    return next;
end
$$;

comment on function wallet._pay_alone(
    bigint[], bigint[], numeric[], text[], text[], text[], bigint[], boolean[], jsonb[], boolean[]
) is
    'Makes the only payment of a batch with make_payment, and returns its outcome.';

create or replace function wallet._batch_content(
    p_buyer_account_ids bigint[],
    p_seller_account_ids bigint[],
    p_amounts numeric[],
    p_atomic boolean,
    p_idempotency_keys text[],
    p_descriptions text[],
    p_references text[],
    p_up_to boolean[],
    p_metadata jsonb[]
)
    returns jsonb
    language sql immutable
as $$
    select jsonb_build_array(
        p_buyer_account_ids, p_seller_account_ids,
        array(
            select trim_scale(asked.amount)
            from unnest(p_amounts) with ordinality as asked (amount, number)
            order by asked.number
        ),
        coalesce(p_atomic, false), p_idempotency_keys, p_descriptions, p_references
    ) || case
        when true = any (p_up_to) or num_nonnulls(variadic p_metadata) > 0 then jsonb_build_array(
            array(
                select coalesce(asked.up_to, false)
                from unnest(p_amounts, p_up_to) with ordinality as asked (amount, up_to, number)
                order by asked.number
            ),
            case when num_nonnulls(variadic p_metadata) > 0 then p_metadata end
        )
        else jsonb '[]'
    end
$$;

comment on function wallet._batch_content(
    bigint[], bigint[], numeric[], boolean, text[], text[], text[], boolean[], jsonb[]
) is
    'The content of a call: calls under one idempotency key have the same.';

create or replace function wallet._batch_denials(p_api_key_ids bigint[], p_buyer_account_ids bigint[])
    returns text[]
    language plpgsql stable
as $$
begin
    return array(
        select case when request.api_key_id is not null then coalesce(
            wallet._api_key_refusal(api_key, 'pay'),
            wallet._binding_refusal(api_key.account_ids, request.buyer_account_id)
        ) end
        from unnest(p_api_key_ids, p_buyer_account_ids)
            with ordinality as request (api_key_id, buyer_account_id, number)
        left join ledger.api_key as api_key on api_key.id = request.api_key_id
        order by request.number
    );
end
$$;

comment on function wallet._batch_denials(bigint[], bigint[]) is
    'For each payment, the code that its API key is refused with, or NULL.';

create or replace function wallet._batch_refusals(
    p_buyer_account_ids bigint[],
    p_seller_account_ids bigint[],
    p_amounts numeric[],
    p_idempotency_keys text[],
    p_descriptions text[],
    p_references text[],
    p_metadata jsonb[],
    p_denials text[]
)
    returns text[]
    language plpgsql immutable
as $$
begin
    return array(
        select coalesce(request.denial, wallet._request_refusal(
            request.buyer_account_id, request.seller_account_id, request.amount, request.idempotency_key,
            request.description, request.reference, request.metadata
        ))
        from unnest(
            p_buyer_account_ids, p_seller_account_ids, p_amounts, p_idempotency_keys, p_descriptions, p_references,
            p_metadata, p_denials
        ) with ordinality as request (
            buyer_account_id, seller_account_id, amount, idempotency_key, description, reference, metadata, denial, number
        )
        order by request.number
    );
end
$$;

comment on function wallet._batch_refusals(bigint[], bigint[], numeric[], text[], text[], text[], jsonb[], text[]) is
    'For each payment, the code of its denial, or else of the first violated rule that needs no account, or NULL.';

create or replace function wallet._payments_under(p_keys text[])
    returns ledger.payment[]
    language plpgsql stable
as $$
declare
    v_payment ledger.payment;
    v_payments ledger.payment[];
begin
    for v_payment in select payment.* from ledger.payment as payment where payment.idempotency_key = any (p_keys) loop
        v_payments[width_bucket(v_payment.idempotency_key, p_keys)] := v_payment;
    end loop;
    return v_payments;
end
$$;

comment on function wallet._payments_under(text[]) is
    'The payments made under idempotency keys in ascending order, each at the position of its key.';

-- In the order of keys, so that concurrent calls cannot deadlock on them. A key may turn out to be taken, by a payment
-- between accounts that are not locked here: then all later outcomes would have to be computed anew.
--
-- Names its columns, so that a new column of the table gets its default.
create or replace function wallet._write_payments(p_payments ledger.payment[])
    returns void
    language plpgsql
as $$
declare
    v_constraint text;
begin
    insert into ledger.payment (
        id, currency_id, buyer_account_id, seller_account_id, amount, buyer_balance, seller_balance, operation_timestamp,
        idempotency_key, description, reference, api_key_id, up_to, metadata
    )
    overriding system value
    select
        made.id, made.currency_id, made.buyer_account_id, made.seller_account_id, made.amount, made.buyer_balance,
        made.seller_balance, made.operation_timestamp, made.idempotency_key, made.description, made.reference,
        made.api_key_id, made.up_to, made.metadata
    from unnest(p_payments) as made
    order by made.idempotency_key, made.id;
exception when unique_violation then
    get stacked diagnostics v_constraint = constraint_name;
    if v_constraint <> 'payment_idempotency_key_key' then
        raise;
    end if;
    raise exception using
        errcode = 'serialization_failure',
        message = 'An idempotency key was used for another payment at the same moment';
end
$$;

comment on function wallet._write_payments(ledger.payment[]) is
    'Writes accepted payments between locked accounts. Raises 40001 if another payment has one of the keys.';

-- A join with the arrays would take 100 us more to start.
create or replace function wallet._write_balances(p_account_ids bigint[], p_balances numeric[], p_times timestamptz[])
    returns void
    language plpgsql
as $$
begin
    update ledger.account as account
    set balance = p_balances[width_bucket(account.id, (select p_account_ids))],
        changed_at = p_times[width_bucket(account.id, (select p_account_ids))]
    where account.id = any (p_account_ids)
        and (account.balance, account.changed_at) is distinct from (
            p_balances[width_bucket(account.id, (select p_account_ids))],
            p_times[width_bucket(account.id, (select p_account_ids))]
        );
end
$$;

comment on function wallet._write_balances(bigint[], numeric[], timestamptz[]) is
    'Writes the balances of locked accounts, whose ids ascend, and the times of their last payments, where they changed.';

-- Balances are kept in an array, so that a batch costs one lock, one update and one insert, however many payments use
-- one account. width_bucket, a binary search, finds the position of an account; if the account was locked, its id is at
-- that position. Payments with keys are found the same way.
create or replace function wallet.make_payments(
    p_buyer_account_ids bigint[],
    p_seller_account_ids bigint[],
    p_amounts numeric[],
    p_atomic boolean default false,
    p_wait boolean default true,
    p_idempotency_keys text[] default null,
    p_descriptions text[] default null,
    p_references text[] default null,
    p_api_key_ids bigint[] default null,
    p_api_key_id bigint default null,
    p_idempotency_key text default null,
    p_up_to boolean[] default null,
    p_metadata jsonb[] default null,
    p_balances boolean[] default null,
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
        replayed boolean,
        error_code text,
        error text,
        error_field text,
        metadata jsonb,
        buyer_balance numeric,
        seller_balance numeric
    )
    language plpgsql
    security definer
    set search_path = pg_catalog, pg_temp
    -- To plan anew for each call would take longer than to make a few payments.
    set plan_cache_mode = force_generic_plan
    -- The generic plan may date from when there were few accounts.
    set enable_seqscan = off
as $$
declare
    v_number constant integer := cardinality(p_amounts);
    v_has_options constant boolean := num_nonnulls(p_up_to, p_metadata, p_balances) > 0;
    v_api_key_ids bigint[] := p_api_key_ids;
    v_denials text[];
    v_refusals text[];
    v_asked_ids bigint[];
    v_busy_ids bigint[];
    v_account_ids bigint[];
    v_currency_ids bigint[];
    v_scales smallint[];
    v_statuses text[];
    v_balances numeric[];
    v_credit_limits numeric[];
    v_held numeric[];
    v_times timestamptz[];
    v_now timestamptz;
    v_keys text[];
    v_payments_by_key ledger.payment[];
    v_request record;
    v_up_to numeric;
    v_refusal text;
    v_payment ledger.payment;
    v_payments ledger.payment[];
    v_answer jsonb;
    v_outcomes jsonb[];
begin
    if wallet._are_of_one_length(
        p_buyer_account_ids, p_seller_account_ids, p_amounts, p_idempotency_keys, p_descriptions, p_references, p_api_key_ids,
        p_up_to, p_metadata, p_balances
    ) is not true then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'Buyers, sellers and amounts should be arrays of the same length, and so should the others, if any';
    elsif p_idempotency_key is not null and p_wait is false then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'A call under an idempotency key has to wait for locked accounts';
    end if;

    if p_api_key_id is not null then
        perform wallet._bound_accounts(p_api_key_id, 'pay');
        v_api_key_ids := array_fill(p_api_key_id, array[v_number]);
    end if;

    -- make_payment makes a single payment in two thirds of the time.
    if v_number = 1 and p_idempotency_key is null and p_wait is not false and p_atomic is not true and p_tenant is null then
        return query
            select outcome.*
            from wallet._pay_alone(
                p_buyer_account_ids, p_seller_account_ids, p_amounts, p_idempotency_keys, p_descriptions, p_references,
                v_api_key_ids, p_up_to, p_metadata, p_balances
            ) as outcome;
        return;
    end if;

    if p_idempotency_key is not null then
        p_idempotency_key := wallet._key_of_tenant(p_idempotency_key, p_api_key_id, p_tenant);
        v_answer := wallet._request_first_answer(
            'make_payments',
            p_idempotency_key,
            wallet._batch_content(
                p_buyer_account_ids, p_seller_account_ids, p_amounts, p_atomic, p_idempotency_keys, p_descriptions,
                p_references, p_up_to, p_metadata
            ),
            p_api_key_id
        );
        if v_answer is not null then
            return query
                select outcome.* from wallet._outcomes_in_answer(v_answer, p_balances, v_api_key_ids) as outcome;
            return;
        end if;
    end if;
    if v_api_key_ids is not null then
        v_denials := wallet._batch_denials(v_api_key_ids, p_buyer_account_ids);
    end if;
    v_refusals := wallet._batch_refusals(
        p_buyer_account_ids, p_seller_account_ids, p_amounts, p_idempotency_keys, p_descriptions, p_references, p_metadata,
        v_denials
    );
    if p_idempotency_keys is not null and (v_api_key_ids is not null or p_tenant is not null) then
        p_idempotency_keys := wallet._keys_of_tenants(p_idempotency_keys, v_api_key_ids, p_tenant);
    end if;
    v_asked_ids := array(
        select party.account_id
        from unnest(p_buyer_account_ids, p_seller_account_ids, v_refusals)
            as request (buyer_account_id, seller_account_id, refusal)
        cross join unnest(array[request.buyer_account_id, request.seller_account_id]) as party (account_id)
        where request.refusal is null
    );
    select locked.*
    into v_account_ids, v_currency_ids, v_scales, v_statuses, v_balances, v_credit_limits, v_held, v_times, v_busy_ids
    from wallet._lock_many(v_asked_ids, p_wait) as locked;
    v_now := wallet._time_now();
    -- After the locks: another call for the same payments keeps them until these are visible.
    if p_idempotency_keys is not null then
        v_keys := array(
            select distinct asked.idempotency_key collate "C"
            from unnest(p_idempotency_keys) as asked (idempotency_key)
            where asked.idempotency_key is not null
            order by 1
        );
        v_payments_by_key := wallet._payments_under(v_keys);
    end if;

    for v_request in
        select
            request.number::integer, request.buyer_account_id, request.seller_account_id, request.amount,
            request.idempotency_key, request.description, request.reference, request.api_key_id, request.up_to,
            request.metadata, request.balances, request.denial, request.refusal,
            -- "(select …)" avoids a copy of the array for each payment
            width_bucket(request.buyer_account_id, (select v_account_ids)) as buyer,
            width_bucket(request.seller_account_id, (select v_account_ids)) as seller,
            width_bucket(request.idempotency_key collate "C", (select v_keys)) as key
        from unnest(
            p_buyer_account_ids, p_seller_account_ids, p_amounts, p_idempotency_keys, p_descriptions, p_references,
            v_api_key_ids, p_up_to, p_metadata, p_balances, v_denials, v_refusals
        ) with ordinality as request (
            buyer_account_id, seller_account_id, amount, idempotency_key, description, reference, api_key_id, up_to,
            metadata, balances, denial, refusal, number
        )
        order by request.number
    loop
        v_payment := null;
        if v_request.key is not null and v_request.denial is null and v_request.refusal is distinct from 'WB028' then
            v_payment := v_payments_by_key[v_request.key];
        end if;
        -- NULL, not false: instances of an older version do not know this column, but can omit a NULL.
        replayed := case when v_payment.id is not null then true end;
        if replayed then
            v_refusal := wallet._key_refusal(
                v_payment, v_request.buyer_account_id, v_request.seller_account_id, v_request.amount,
                v_request.description, v_request.reference,
                p_up_to => case when v_request.up_to then v_request.amount end, p_metadata => v_request.metadata
            );
        elsif v_request.refusal is not null then
            v_refusal := v_request.refusal;
        elsif p_wait is false and array[v_request.buyer_account_id, v_request.seller_account_id] && v_busy_ids then
            v_refusal := '55P03';
        else
            if v_request.up_to then
                v_up_to := v_request.amount;
                v_request.amount := wallet._up_to(
                    v_up_to, v_scales[v_request.buyer],
                    wallet._available(
                        v_balances[v_request.buyer], v_credit_limits[v_request.buyer], v_held[v_request.buyer]
                    )
                );
            end if;
            v_refusal := wallet._payment_refusal(
                v_request.amount,
                case when v_account_ids[v_request.buyer] = v_request.buyer_account_id
                    then v_currency_ids[v_request.buyer] end,
                case when v_account_ids[v_request.seller] = v_request.seller_account_id
                    then v_currency_ids[v_request.seller] end,
                v_scales[v_request.buyer],
                v_statuses[v_request.buyer],
                v_statuses[v_request.seller],
                wallet._available(
                    v_balances[v_request.buyer], v_credit_limits[v_request.buyer], v_held[v_request.buyer]
                ),
                v_balances[v_request.seller]
            );
        end if;

        error_code := v_refusal;
        error := null;
        error_field := null;
        if v_refusal is not null then
            error := wallet._refusals() -> v_refusal ->> 'message';
            error_field := coalesce(
                wallet._party_to_blame(v_refusal, v_account_ids[v_request.buyer] = v_request.buyer_account_id),
                wallet._refusals() -> v_refusal ->> 'argument'
            );
            if p_atomic then
                raise exception using
                    errcode = v_refusal,
                    message = error,
                    column = coalesce(error_field, ''),
                    detail = format('Index: %s', v_request.number - 1);
            end if;
            v_payment := null;
            replayed := null;
        elsif replayed is not true then
            v_payment.id := nextval('ledger.payment_id_seq');
            v_payment.currency_id := v_currency_ids[v_request.buyer];
            v_payment.buyer_account_id := v_request.buyer_account_id;
            v_payment.seller_account_id := v_request.seller_account_id;
            v_payment.amount := trim_scale(v_request.amount);
            v_payment.buyer_balance := trim_scale(v_balances[v_request.buyer] - v_request.amount);
            v_payment.seller_balance := trim_scale(v_balances[v_request.seller] + v_request.amount);
            v_payment.operation_timestamp := greatest(
                v_now, clock_timestamp(), v_times[v_request.buyer], v_times[v_request.seller]
            );
            v_payment.idempotency_key := v_request.idempotency_key;
            v_payment.description := v_request.description;
            v_payment.reference := v_request.reference;
            v_payment.api_key_id := v_request.api_key_id;
            if v_has_options then
                v_payment.up_to := case when v_request.up_to then trim_scale(v_up_to) end;
                v_payment.metadata := v_request.metadata;
            end if;
            v_payments := array_append(v_payments, v_payment);
            v_balances[v_request.buyer] := v_payment.buyer_balance;
            v_balances[v_request.seller] := v_payment.seller_balance;
            v_times[v_request.buyer] := v_payment.operation_timestamp;
            v_times[v_request.seller] := v_payment.operation_timestamp;
            if v_request.key is not null then
                v_payments_by_key[v_request.key] := v_payment;
            end if;
        end if;

        id := v_payment.id;
        currency_id := v_payment.currency_id;
        amount := v_payment.amount;
        buyer_account_id := v_payment.buyer_account_id;
        seller_account_id := v_payment.seller_account_id;
        operation_timestamp := v_payment.operation_timestamp;
        description := v_payment.description;
        reference := v_payment.reference;
        if v_has_options then
            metadata := v_payment.metadata;
            buyer_balance := case when v_request.balances
                then wallet._balance_for(v_request.api_key_id, v_payment.buyer_account_id, v_payment.buyer_balance) end;
            seller_balance := case when v_request.balances
                then wallet._balance_for(v_request.api_key_id, v_payment.seller_account_id, v_payment.seller_balance) end;
        end if;
        if p_idempotency_key is not null then
            v_outcomes := array_append(v_outcomes, case
                when v_refusal is null then jsonb_build_object('id', v_payment.id)
                else jsonb_build_object('code', error_code, 'field', error_field)
            end);
        end if;
        return next;
    end loop;

    perform wallet._write_payments(v_payments);
    perform wallet._write_balances(v_account_ids, v_balances, v_times);
    if p_idempotency_key is not null then
        perform wallet._request_keep_answer('make_payments', p_idempotency_key, to_jsonb(coalesce(v_outcomes, '{}')));
    end if;
end
$$;

comment on function wallet.make_payments(
    bigint[], bigint[], numeric[], boolean, boolean, text[], text[], text[], bigint[], bigint, text, boolean[], jsonb[],
    boolean[], text
) is
    'Makes many payments, the n-th from the n-th elements of the arrays, and returns a row for each, in order: the '
    'payment, or the code and message of its refusal. If p_atomic is true, the first refusal is raised instead, with '
    'DETAIL "Index: n" counted from 0, and no payment is made. If p_wait is false, payments with accounts that '
    'another transaction has locked are not made: 55P03. A payment whose idempotency key (1 to 255 characters, or '
    'NULL) was used before, also in this call, is not made again but returned with replayed true. Under '
    'p_idempotency_key, the whole call takes effect once; a repeated call returns all outcomes with replayed true. '
    'p_up_to, p_metadata and p_balances are as in make_payment. Idempotency keys are those of the tenants of the API '
    'keys or, without them, of p_tenant.';

grant execute on function wallet.make_payments(
    bigint[], bigint[], numeric[], boolean, boolean, text[], text[], text[], bigint[], bigint, text, boolean[], jsonb[],
    boolean[], text
) to wallet_app, wallet_ops;
