-- wallet._refuse(p_code), wallet._refusal_message(p_code)
--
-- The words of every refusal, and the one place that raises them. The class of a code (its first two
-- characters) says what kind of refusal it is, and is all that the HTTP layer knows of it:
--
--   WB  the caller's request cannot be granted    WN  there is no such thing    WC  it is taken
--   WK  its idempotency key stands for another request
--
-- 55P03 is PostgreSQL's own, and no refusal: what could not be looked at now may be asked for again.
--
-- A new rule is a new code here, a test that raises it, and a line in db/README.md.

create or replace function wallet._refusal_message(p_code text)
    returns text
    language sql immutable
as $$
    select case p_code
        when 'WB001' then 'Could not make payment to self'
        when 'WB002' then 'Amount should be positive'
        when 'WB003' then 'Amount should be a number of at most 15 integer digits and 15 decimals'
        when 'WB004' then 'Account not found'
        when 'WB005' then 'Payment allowed only when account currencies match'
        when 'WB006' then 'Buyer account does not have sufficient balance'
        when 'WB007' then 'Seller account balance would have more than 15 integer digits'
        when 'WB008' then 'Idempotency key should have 1 to 255 characters'
        when 'WB011' then 'Name should have 1 to 255 characters'
        when 'WB012' then 'Amount should not be negative'
        when 'WB013' then 'Currency not found'
        when 'WC011' then 'Account name already exists'
        when 'WK001' then 'Idempotency key belongs to another payment'
        when 'WN001' then 'Account not found'
        when '55P03' then 'An account is locked by somebody else'
    end
$$;

comment on function wallet._refusal_message(text) is
    'The words of a refusal, by its code (SQLSTATE). NULL for a code that is not the wallet''s.';

create or replace function wallet._refuse(p_code text)
    returns void
    language plpgsql
as $$
begin
    raise exception using errcode = p_code, message = wallet._refusal_message(p_code);
end
$$;

comment on function wallet._refuse(text) is 'Raises the refusal with this code (SQLSTATE) and its words.';
