-- The baseline for make_payment: the plainest function that makes payments without a race. It has no idempotency keys,
-- refunds, holds, statuses, scales or balances in the past, and no codes of errors.

drop schema if exists bench_plain cascade;
create schema bench_plain;

create table bench_plain.account (
    id bigint primary key,
    currency_id bigint not null,
    balance numeric not null check (balance >= 0)
) with (fillfactor = 50);
create table bench_plain.payment (
    id bigint generated always as identity primary key,
    buyer_account_id bigint not null references bench_plain.account (id),
    seller_account_id bigint not null references bench_plain.account (id),
    amount numeric not null check (amount > 0),
    operation_timestamp timestamptz not null default clock_timestamp()
);
create index on bench_plain.payment (buyer_account_id);
create index on bench_plain.payment (seller_account_id);

create function bench_plain.pay(p_buyer_account_id bigint, p_seller_account_id bigint, p_amount numeric)
    returns bigint
    language plpgsql
as $$
declare
    v_buyer bench_plain.account;
    v_seller bench_plain.account;
    v_id bigint;
begin
    if p_buyer_account_id < p_seller_account_id then
        select * into v_buyer from bench_plain.account where id = p_buyer_account_id for update;
        select * into v_seller from bench_plain.account where id = p_seller_account_id for update;
    else
        select * into v_seller from bench_plain.account where id = p_seller_account_id for update;
        select * into v_buyer from bench_plain.account where id = p_buyer_account_id for update;
    end if;
    if (v_buyer.currency_id = v_seller.currency_id and v_buyer.balance >= p_amount) is not true then
        raise exception 'refused';
    end if;
    update bench_plain.account set balance = balance - p_amount where id = p_buyer_account_id;
    update bench_plain.account set balance = balance + p_amount where id = p_seller_account_id;
    insert into bench_plain.payment (buyer_account_id, seller_account_id, amount)
    values (p_buyer_account_id, p_seller_account_id, p_amount)
    returning id into v_id;
    return v_id;
end
$$;

grant usage on schema bench_plain to wallet_app;
grant select, insert, update on all tables in schema bench_plain to wallet_app;
