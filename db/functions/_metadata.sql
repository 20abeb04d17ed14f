-- wallet._is_metadata(p_metadata)
--
-- Shared by all functions that store metadata, data of the client's own.
--
-- Returns: true or false
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet._is_metadata(p_metadata jsonb)
    returns boolean
    language sql immutable
as $$
    select jsonb_typeof(p_metadata) = 'object' and octet_length(p_metadata::text) <= 4096
$$;

comment on function wallet._is_metadata(jsonb) is
    'Whether a value can be metadata: a JSON object of at most 4096 bytes, as PostgreSQL writes it.';
