-- wallet._is_status(p_status), wallet._is_opening(p_change),
-- wallet._keep_terms(p_account_id, p_status, p_credit_limit, p_api_key_id),
-- wallet._account_becomes(p_account_id, p_status, p_credit_limit, p_api_key_id), wallet._answered_account(p_answer)
--
-- Shared by the functions that set an account's terms: its status and credit limit.
--
-- Returns: _is_status, _is_opening: true or false; _answered_account: the account in a stored answer
-- Locks:   nothing; the account is new, or the caller has locked it
-- Writes:  _keep_terms: ledger.account_change (one row); _account_becomes: also ledger.account (status, credit limit)
-- Raises:  nothing

create or replace function wallet._is_status(p_status text)
    returns boolean
    language sql immutable
as $$
    select p_status in ('active', 'frozen', 'blocked', 'closed')
$$;

comment on function wallet._is_status(text) is 'Whether a text is the status of an account.';

-- The trigger account_change_reported decides in the same way. The first change of an account that is older than
-- these records is one to something else.
create or replace function wallet._is_opening(p_change ledger.account_change)
    returns boolean
    language sql stable
as $$
    select p_change.status = 'active' and p_change.credit_limit = 0 and not exists (
        select from ledger.account_change as earlier
        where earlier.account_id = p_change.account_id and earlier.id < p_change.id
    )
$$;

comment on function wallet._is_opening(ledger.account_change) is
    'Whether a change is the opening of its account, and not a change of its status or credit limit.';

-- Earlier payments of the account have ids up to the sequence's present value, and later payments have higher ids:
-- last_payment_id places the change among them.
create or replace function wallet._keep_terms(
    p_account_id bigint,
    p_status text,
    p_credit_limit numeric,
    p_api_key_id bigint
)
    returns void
    language sql
as $$
    insert into ledger.account_change (account_id, status, credit_limit, last_payment_id, api_key_id)
    values (
        p_account_id, p_status, p_credit_limit, coalesce(pg_sequence_last_value('ledger.payment_id_seq'::regclass), 0),
        p_api_key_id
    )
$$;

comment on function wallet._keep_terms(bigint, text, numeric, bigint) is
    'Records the status and credit limit that a new or locked account has from now on, and who set them.';

create or replace function wallet._account_becomes(
    p_account_id bigint,
    p_status text,
    p_credit_limit numeric,
    p_api_key_id bigint
)
    returns void
    language sql
as $$
    select wallet._keep_terms(p_account_id, p_status, p_credit_limit, p_api_key_id);
    update ledger.account as account
    set status = p_status, credit_limit = p_credit_limit
    where account.id = p_account_id
$$;

comment on function wallet._account_becomes(bigint, text, numeric, bigint) is
    'Sets the status and credit limit of a locked account, and records the change.';

create or replace function wallet._answered_account(p_answer jsonb)
    returns table (
        id bigint,
        name text,
        currency_id bigint,
        currency_name text,
        amount numeric,
        status text,
        held numeric,
        available numeric,
        credit_limit numeric,
        metadata jsonb
    )
    language sql immutable
as $$
    select account.*
    from jsonb_to_record(p_answer) as account (
        id bigint, name text, currency_id bigint, currency_name text, amount numeric, status text, held numeric,
        available numeric, credit_limit numeric, metadata jsonb
    )
$$;

comment on function wallet._answered_account(jsonb) is 'The account in a stored answer.';
