-- wallet._is_status(p_status), wallet._keep_terms(p_account_id, p_status, p_credit_limit, p_api_key_id),
-- wallet._account_becomes(p_account_id, p_status, p_credit_limit, p_api_key_id), wallet._account_in_answer(p_answer)
--
-- What the functions share that change what an account may do.
--
-- Returns: true or false; the account in a kept answer
-- Locks:   nothing; the account is locked by then
-- Writes:  _keep_terms: ledger.account_change (one row); _account_becomes: the same, and ledger.account (status, credit
--          limit)
-- Raises:  nothing

create or replace function wallet._is_status(p_status text)
    returns boolean
    language sql immutable
as $$
    select p_status in ('active', 'frozen', 'closed')
$$;

comment on function wallet._is_status(text) is 'Whether there is such a status of an account.';

-- The payments that the account has made and received up to now have ids that were drawn before this, and all others
-- will have later ones: so a change has its place among them.
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
    'Keeps a record of what a new account, or a locked one, may do from now on, and of who decided that.';

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
    'Changes what a locked account may do, and keeps a record of that.';

create or replace function wallet._account_in_answer(p_answer jsonb)
    returns table (
        id bigint,
        name text,
        currency_id bigint,
        currency_name text,
        amount numeric,
        status text,
        held numeric,
        available numeric,
        credit_limit numeric
    )
    language sql immutable
as $$
    select account.*
    from jsonb_to_record(p_answer) as account (
        id bigint, name text, currency_id bigint, currency_name text, amount numeric, status text, held numeric,
        available numeric, credit_limit numeric
    )
$$;

comment on function wallet._account_in_answer(jsonb) is 'The account that a kept answer shows.';
