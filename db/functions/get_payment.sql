-- wallet.get_payment(p_payment_id, p_api_key_id)
--
-- Returns one payment, and how much of it has been refunded.
--
-- Returns: the payment, one row; refunded_amount is NULL if there are no refunds, made_by for API keys that may
--          not see it
-- Locks:   nothing
-- Raises:  refusals of the API key; no such payment, or the key may not see it

create or replace function wallet.get_payment(p_payment_id bigint, p_api_key_id bigint default null)
    returns table (
        id bigint,
        currency_id bigint,
        currency_name text,
        amount numeric,
        buyer_account_id bigint,
        seller_account_id bigint,
        operation_timestamp timestamptz,
        description text,
        reference text,
        refunded_payment_id bigint,
        hold_id bigint,
        refunded_amount numeric,
        made_by text,
        metadata jsonb
    )
    language plpgsql stable
    security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_ids bigint[] := wallet._bound_accounts(p_api_key_id, 'read');
    v_sees_makers boolean := wallet._may_see_makers(p_api_key_id);
begin
    return query
        select
            payment.id, payment.currency_id, currency.name, payment.amount::numeric,
            payment.buyer_account_id, payment.seller_account_id, payment.operation_timestamp,
            payment.description, payment.reference, payment.refunded_payment_id, payment.hold_id,
            (
                select trim_scale(sum(refund.amount))
                from ledger.payment as refund
                where refund.refunded_payment_id = payment.id
            ),
            case when v_sees_makers then wallet._made_by(payment.api_key_id, payment.database_role) end,
            payment.metadata
        from ledger.payment as payment
        join ledger.currency as currency on currency.id = payment.currency_id
        where payment.id = p_payment_id
            and wallet._may_see(v_account_ids, payment.buyer_account_id, payment.seller_account_id);
    if not found then
        perform wallet._refuse('WN002');
    end if;
end
$$;

comment on function wallet.get_payment(bigint, bigint) is
    'The payment with this id, how much of it has been refunded, and who made it. Raises a refusal if there is none.';

grant execute on function wallet.get_payment(bigint, bigint) to wallet_app, wallet_ops, wallet_reporting;
