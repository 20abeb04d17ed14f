-- The ledger: currencies, accounts, payments.
--
-- The functions of the schema wallet are where rules live and where refusals get their words. The
-- constraints here are the second, independent assertion: nothing that breaks one can be stored, whatever
-- a function does. Conditions say what is allowed, so that NULL and NaN, of which neither is, fall through.

set local role wallet_owner;

-- numeric without a declared scale: a column of numeric(30, 15) would round what is too fine, on each
-- side of a payment separately, and so create money. This one refuses it.
create domain ledger.amount as numeric
    constraint amount_has_15_integer_digits check (value > -1e15 and value < 1e15)
    constraint amount_has_15_decimals check (min_scale(value) <= 15);
comment on domain ledger.amount is
    'Money, exact: at most 15 digits before and 15 after the point; neither NaN nor infinite.';

create table ledger.currency (
    id bigint generated always as identity primary key,
    name text not null unique constraint currency_name_length check (char_length(name) between 1 and 16)
);
comment on table ledger.currency is 'The currencies that accounts are kept in.';
comment on column ledger.currency.id is 'Identifies the currency.';
comment on column ledger.currency.name is 'Its name, 1 to 16 characters.';

insert into ledger.currency (name) values ('USD'), ('RUB'), ('BTC'), ('ETC');

-- fillfactor: a payment changes two balances; room in the page keeps the change there (a HOT update),
-- and no index is touched.
create table ledger.account (
    id bigint generated always as identity primary key,
    name text not null unique constraint account_name_length check (char_length(name) between 1 and 255),
    currency_id bigint not null references ledger.currency (id),
    opening_balance ledger.amount not null constraint account_opening_balance_covered check (opening_balance >= 0),
    balance ledger.amount not null constraint account_balance_covered check (balance >= 0),
    created_at timestamptz not null default clock_timestamp(),
    constraint account_id_currency_id_key unique (id, currency_id)
) with (fillfactor = 50);
comment on table ledger.account is 'Accounts and what is on them now.';
comment on column ledger.account.id is 'Identifies the account.';
comment on column ledger.account.name is 'Its name, unique, 1 to 255 characters.';
comment on column ledger.account.currency_id is 'The currency it is kept in, for good.';
comment on column ledger.account.opening_balance is 'The balance it was created with: no money without an origin.';
comment on column ledger.account.balance is
    'The balance now: opening_balance, plus what it received, minus what it paid.';
comment on column ledger.account.created_at is 'When it was created.';
comment on constraint account_id_currency_id_key on ledger.account is
    'Lets a payment refer to account and currency at once.';

-- The foreign keys take the currency along: a payment between two currencies can not be stored at all.
create table ledger.payment (
    id bigint generated always as identity primary key,
    currency_id bigint not null,
    buyer_account_id bigint not null,
    seller_account_id bigint not null,
    amount ledger.amount not null constraint payment_amount_positive check (amount > 0),
    buyer_balance ledger.amount not null constraint payment_buyer_balance_covered check (buyer_balance >= 0),
    seller_balance ledger.amount not null constraint payment_seller_balance_covered check (seller_balance >= 0),
    operation_timestamp timestamptz not null default clock_timestamp(),
    constraint payment_not_to_self check (buyer_account_id <> seller_account_id),
    constraint payment_buyer_fkey
        foreign key (buyer_account_id, currency_id) references ledger.account (id, currency_id),
    constraint payment_seller_fkey
        foreign key (seller_account_id, currency_id) references ledger.account (id, currency_id)
);
comment on table ledger.payment is 'Payments made, append-only. With the balances after each, the ledger proves itself.';
comment on column ledger.payment.id is
    'Identifies the payment. Of two payments of one account, the later one has the higher id.';
comment on column ledger.payment.currency_id is 'The currency of both accounts.';
comment on column ledger.payment.buyer_account_id is 'The account that lost the amount.';
comment on column ledger.payment.seller_account_id is 'The account that gained the amount.';
comment on column ledger.payment.amount is 'How much was paid, above zero.';
comment on column ledger.payment.buyer_balance is 'The buyer''s balance after the payment.';
comment on column ledger.payment.seller_balance is 'The seller''s balance after the payment.';
comment on column ledger.payment.operation_timestamp is 'When it was made, read while both accounts were locked.';

create function ledger.refuse_change() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'restrict_violation',
        message = format('%I.%I keeps what it has: see trigger %I', tg_table_schema, tg_table_name, tg_name);
end
$$;
comment on function ledger.refuse_change() is 'Trigger: refuses to change or remove what a table has, to its owner too.';

create trigger payment_append_only
    before update or delete or truncate on ledger.payment
    for each statement execute function ledger.refuse_change();
comment on trigger payment_append_only on ledger.payment is 'A payment once made is never changed or removed.';

create trigger account_origin_kept
    before delete or truncate or update of id, currency_id, opening_balance, created_at on ledger.account
    for each statement execute function ledger.refuse_change();
comment on trigger account_origin_kept on ledger.account is
    'An account stays, and so does where its money came from.';
