-- wallet._lock_account(p_account_id), wallet._lock_parties(p_buyer_account_id, p_seller_account_id),
-- wallet._lock_many(p_account_ids, p_wait),
-- wallet._hold_left(p_amount, p_captured_amount), wallet._release_expired_holds(p_account_id, p_held),
-- wallet._add_to_held(p_account_id, p_change),
-- wallet._last_changed(p_account_id), wallet._brought_up_to_date(p_account)
--
-- Locks accounts, and brings their held amounts up to date.
--
-- Returns: the locked accounts in their present state; `held` excludes expired holds
-- Locks:   the accounts FOR NO KEY UPDATE, in id order, until the transaction ends. Only a transaction that has locked
--          an account writes its holds
-- Writes:  ledger.hold (expired holds), ledger.account (held)
-- Raises:  nothing

create or replace function wallet._hold_left(p_amount numeric, p_captured_amount numeric)
    returns numeric
    language sql immutable
as $$
    select p_amount - coalesce(p_captured_amount, 0)
$$;

comment on function wallet._hold_left(numeric, numeric) is
    'What an open hold still holds, by its amount and what its captures have paid (NULL: nothing).';

-- Expired holds are released lazily, by the next call that locks the account, before it checks any rule. They stay
-- released even if the clock is set back.
create or replace function wallet._release_expired_holds(p_account_id bigint, p_held numeric)
    returns numeric
    language plpgsql
as $$
declare
    -- A variable, because clock_timestamp() is volatile: an index cannot look up a value that changes from row to row.
    v_now timestamptz := clock_timestamp();
    v_expired numeric;
begin
    with expired as (
        update ledger.hold as hold
        set status = 'expired', ended_at = hold.expires_at
        where hold.buyer_account_id = p_account_id and hold.status = 'open' and hold.expires_at <= v_now
        returning wallet._hold_left(hold.amount, hold.captured_amount) as amount
    )
    select sum(expired.amount) into v_expired from expired;
    return case when v_expired is null then p_held else wallet._add_to_held(p_account_id, -v_expired) end;
end
$$;

comment on function wallet._release_expired_holds(bigint, numeric) is
    'Ends the expired holds of a locked account. Takes its held amount, and returns the amount still held.';

create or replace function wallet._add_to_held(p_account_id bigint, p_change numeric)
    returns numeric
    language sql
as $$
    update ledger.account as account
    set held = trim_scale(account.held + p_change)
    where account.id = p_account_id
    returning account.held
$$;

comment on function wallet._add_to_held(bigint, numeric) is
    'Adds to the held amount of a locked account, and returns the new amount.';

-- For accounts without changed_at, because their last payment is older than that column. (PL/pgSQL keeps the plan.)
create or replace function wallet._last_changed(p_account_id bigint)
    returns timestamptz
    language plpgsql stable
as $$
declare
    v_payment ledger.payment;
begin
    v_payment := wallet._last_payment_of(p_account_id, 9223372036854775807);
    return v_payment.operation_timestamp;
end
$$;

comment on function wallet._last_changed(bigint) is
    'The time of a locked account''s last payment; NULL if it has none.';

create or replace function wallet._brought_up_to_date(p_account ledger.account)
    returns ledger.account
    language plpgsql
as $$
begin
    if p_account.held <> 0 then
        p_account.held := wallet._release_expired_holds(p_account.id, p_account.held);
    end if;
    if p_account.id is not null and p_account.changed_at is null then
        p_account.changed_at := wallet._last_changed(p_account.id);
    end if;
    return p_account;
end
$$;

comment on function wallet._brought_up_to_date(ledger.account) is
    'A locked account, its expired holds released and the time of its last payment filled in.';

-- FOR NO KEY UPDATE suffices to change a balance; FOR UPDATE would also block foreign keys that refer to the account.
create or replace function wallet._lock_account(p_account_id bigint)
    returns ledger.account
    language plpgsql
as $$
declare
    v_account ledger.account;
begin
    select account.* into v_account
    from ledger.account as account where account.id = p_account_id for no key update;
    return wallet._brought_up_to_date(v_account);
end
$$;

comment on function wallet._lock_account(bigint) is
    'Locks an account until the transaction ends, and returns it; all NULL if it does not exist.';

-- Locking in id order prevents deadlocks.
create or replace function wallet._lock_parties(p_buyer_account_id bigint, p_seller_account_id bigint)
    returns ledger.account[]
    language plpgsql
as $$
declare
    v_buyer ledger.account;
    v_seller ledger.account;
begin
    if p_buyer_account_id < p_seller_account_id then
        v_buyer := wallet._lock_account(p_buyer_account_id);
        v_seller := wallet._lock_account(p_seller_account_id);
    else
        v_seller := wallet._lock_account(p_seller_account_id);
        v_buyer := wallet._lock_account(p_buyer_account_id);
    end if;
    return array[v_buyer, v_seller];
end
$$;

comment on function wallet._lock_parties(bigint, bigint) is
    'Locks the two accounts of a payment, and returns the buyer and the seller; one that does not exist is all NULL.';

-- `held` is computed outside the inner query, which would compute it before the lock.
--
-- "between" makes PostgreSQL find each account by its id, even with a plan from when there were few accounts. With "=",
-- it may plan to read the whole index. With "id = any (…)", it compares each account changed meanwhile with all ids.
create or replace function wallet._lock_many(
    p_account_ids bigint[],
    p_wait boolean,
    out account_ids bigint[],
    out currency_ids bigint[],
    out scales smallint[],
    out statuses text[],
    out balances numeric[],
    out credit_limits numeric[],
    out held numeric[],
    out times timestamptz[],
    out busy_ids bigint[]
)
    language plpgsql
as $$
declare
    v_ids bigint[] := p_account_ids;
begin
    if p_wait is false then
        -- Never waits, and so needs no order.
        v_ids := array(
            select account.id
            from ledger.account as account
            where account.id = any (p_account_ids)
            for no key update skip locked
        );
        busy_ids := array(
            select account.id
            from ledger.account as account
            where account.id = any (p_account_ids) and account.id <> all (v_ids)
        );
    end if;
    select
        array_agg(locked.id), array_agg(locked.currency_id), array_agg(locked.currency_scale),
        array_agg(locked.status), array_agg(locked.balance::numeric), array_agg(locked.credit_limit),
        array_agg(
            case when locked.held = 0 then locked.held else wallet._release_expired_holds(locked.id, locked.held) end
        ),
        array_agg(locked.changed_at)
    into account_ids, currency_ids, scales, statuses, balances, credit_limits, held, times
    from (
        select account.*
        from (select distinct asked.id from unnest(v_ids) as asked (id)) as asked
        join ledger.account as account on account.id between asked.id and asked.id
        order by asked.id
        for no key update of account
    ) as locked;
    -- A new statement after the locks: it sees the payments of earlier lock holders.
    if array_position(times, null) is not null then
        times := array(
            select coalesce(locked.changed_at, wallet._last_changed(locked.id))
            from unnest(account_ids, times) with ordinality as locked (id, changed_at, number)
            order by locked.number
        );
    end if;
end
$$;

comment on function wallet._lock_many(bigint[], boolean) is
    'Locks those of the accounts that exist, in id order, until the transaction ends, and returns their columns, each as '
    'an array in this order. If p_wait is false, leaves out the accounts that another transaction has locked: busy_ids.';
