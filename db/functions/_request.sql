-- wallet._request_first_answer(p_operation, p_idempotency_key, p_content, p_api_key_id),
-- wallet._request_keep_answer(p_operation, p_idempotency_key, p_answer)
--
-- Idempotency keys for functions that write no row in which the key could be stored. The first call under a key stores
-- its content and its answer. Later calls get this answer, or are refused if their content differs. A refused call
-- stores nothing, so its key can be used again. Keys are passed as they are stored (_key_of_tenant).
--
-- Returns: _request_first_answer: the answer to the earlier call; NULL if there was none
-- Locks:   the key, until the transaction ends: a second call under it waits for the first
-- Writes:  ledger.request (one row)
-- Raises:  the idempotency key belongs to another request

create or replace function wallet._request_first_answer(
    p_operation text,
    p_idempotency_key text,
    p_content jsonb,
    p_api_key_id bigint
)
    returns jsonb
    language plpgsql
as $$
declare
    v_content_hash constant bytea := sha256(convert_to(p_content::text, 'UTF8'));
    v_request ledger.request;
begin
    if p_idempotency_key is null then
        return null;
    end if;
    insert into ledger.request as request (operation, idempotency_key, content_hash, api_key_id)
    values (p_operation, p_idempotency_key, v_content_hash, p_api_key_id)
    on conflict on constraint request_idempotency_key_key do nothing;
    if found then
        return null;
    end if;
    select request.* into v_request
    from ledger.request as request
    where request.operation = p_operation and request.idempotency_key = p_idempotency_key;
    if (v_request.content_hash = v_content_hash) is not true then
        perform wallet._refuse('WK003');
    end if;
    return v_request.answer;
end
$$;

comment on function wallet._request_first_answer(text, text, jsonb, bigint) is
    'The stored answer under an idempotency key. NULL if there is none: the caller then stores its answer with '
    '_request_keep_answer. Raises a refusal if the key belongs to another request.';

create or replace function wallet._request_keep_answer(p_operation text, p_idempotency_key text, p_answer jsonb)
    returns void
    language sql
as $$
    update ledger.request as request
    set answer = p_answer
    where request.operation = p_operation and request.idempotency_key = p_idempotency_key
$$;

comment on function wallet._request_keep_answer(text, text, jsonb) is
    'Stores the answer to a request that _request_first_answer let through. Without a key (NULL), it does nothing.';
