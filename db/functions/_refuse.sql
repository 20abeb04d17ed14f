-- wallet._refuse(p_code), wallet._refusal_message(p_code)
--
-- The words of every refusal, and the one place that raises them. The class of a code (its first two
-- characters) says what kind of refusal it is, and is all that the HTTP layer knows of it:
--
--   WA  who asks has no API key that is valid     WF  its API key does not allow that
--   WB  the caller's request cannot be granted    WN  there is no such thing
--   WC  it is taken, or what there is does not allow it
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
        when 'WA001' then 'API key is not valid'
        when 'WB001' then 'Could not make payment to self'
        when 'WB002' then 'Amount should be positive'
        when 'WB003' then 'Amount should be a number of at most 15 integer digits and 15 decimals'
        when 'WB004' then 'Account not found'
        when 'WB005' then 'Payment allowed only when account currencies match'
        when 'WB006' then 'Buyer account does not have sufficient balance'
        when 'WB007' then 'Seller account balance would have more than 15 integer digits'
        when 'WB008' then 'Idempotency key should have 1 to 255 characters'
        when 'WB009' then 'Amount should have no more decimals than its currency has'
        when 'WB010' then 'Buyer account is frozen'
        when 'WB011' then 'Name should have 1 to 255 characters'
        when 'WB012' then 'Amount should not be negative'
        when 'WB013' then 'Currency not found'
        when 'WB014' then 'Buyer account is closed'
        when 'WB015' then 'Seller account is closed'
        when 'WB016' then 'Description should have 1 to 255 characters'
        when 'WB017' then 'Reference should have 1 to 255 characters'
        when 'WB021' then 'Refunds should not exceed the payment'
        when 'WB022' then 'A refund cannot be refunded'
        when 'WB031' then 'ExpiresIn should be 1 to 31536000 seconds'
        when 'WB032' then 'Amount should not exceed the hold'
        when 'WB041' then 'Status should be active, frozen or closed'
        when 'WB051' then 'Name should have 1 to 16 characters'
        when 'WB052' then 'Scale should be 0 to 15'
        when 'WB061' then 'Limit should be 1 to 1000'
        when 'WB062' then 'Min and max should be amounts'
        when 'WB071' then 'Name should have 1 to 64 characters'
        when 'WB072' then 'Scopes should be some of read, pay and admin'
        when 'WB073' then 'Accounts should be 1 to 100 that exist, each once'
        when 'WB074' then 'Expiry should be in the future'
        when 'WC011' then 'Account name already exists'
        when 'WC031' then 'Hold was captured already'
        when 'WC032' then 'Hold was voided already'
        when 'WC033' then 'Hold has expired'
        when 'WC041' then 'Account should have a balance of 0 to be closed'
        when 'WC042' then 'Account should have nothing held to be closed'
        when 'WC043' then 'Credit limit should cover what is used of it'
        when 'WC051' then 'Currency name already exists'
        when 'WC071' then 'API key name already exists'
        when 'WF001' then 'API key does not have the scope for this'
        when 'WF002' then 'API key is bound to other accounts'
        when 'WK001' then 'Idempotency key belongs to another payment'
        when 'WK002' then 'Idempotency key belongs to another hold'
        when 'WN001' then 'Account not found'
        when 'WN002' then 'Payment not found'
        when 'WN003' then 'Hold not found'
        when 'WN004' then 'API key not found'
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
