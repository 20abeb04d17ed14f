-- Most payments are checked by a shorter query. No table is locked.

set local role wallet_owner;

-- It asserts what it did in 0006. Payments that are neither refunds nor captures are all that most statements add: for
-- them, the first query says all, and spares what preparing to look at other payments and at holds takes. Where it finds
-- anything else, the second query decides. It has no settings of its own, because a payment would pay for them: the
-- functions of the schema wallet, within which it is planned, have them.
create or replace function ledger.check_payments() returns trigger
    language plpgsql
as $$
declare
    v_id bigint;
begin
    select made.id into v_id
    from made
    where (
        made.currency_id = (select buyer.currency_id from ledger.account as buyer where buyer.id = made.buyer_account_id)
        and made.currency_id
            = (select seller.currency_id from ledger.account as seller where seller.id = made.seller_account_id)
        and (made.description is null or char_length(made.description) between 1 and 255)
        and (made.reference is null or char_length(made.reference) between 1 and 255)
        and (made.api_key_id is null or (
            select true from ledger.api_key as api_key where api_key.id = made.api_key_id
        ))
        and made.refunded_payment_id is null and made.hold_id is null
    ) is not true
    limit 1;
    if v_id is not null then
        select made.id into v_id
        from made
        where (
            made.currency_id
                = (select buyer.currency_id from ledger.account as buyer where buyer.id = made.buyer_account_id)
            and made.currency_id
                = (select seller.currency_id from ledger.account as seller where seller.id = made.seller_account_id)
            and (made.description is null or char_length(made.description) between 1 and 255)
            and (made.reference is null or char_length(made.reference) between 1 and 255)
            and (made.refunded_payment_id is null or (
                select original.id < made.id
                    and original.buyer_account_id = made.seller_account_id
                    and original.seller_account_id = made.buyer_account_id
                from ledger.payment as original
                where original.id = made.refunded_payment_id
            ))
            and (made.hold_id is null or (
                select hold.buyer_account_id = made.buyer_account_id and hold.seller_account_id = made.seller_account_id
                from ledger.hold as hold
                where hold.id = made.hold_id
            ))
            and (made.api_key_id is null or (
                select true from ledger.api_key as api_key where api_key.id = made.api_key_id
            ))
        ) is not true
        limit 1;
    end if;
    if v_id is not null then
        raise exception using
            errcode = 'check_violation',
            constraint = tg_name,
            message = format('Payment %s is not between two accounts of its currency, or not what it says: see trigger %I',
                v_id, tg_name);
    end if;
    return null;
end
$$;
alter function ledger.check_payments() reset all;
