-- wallet._name_as_stored(p_name), wallet._name_is_clear(p_name)
--
-- Which names accounts, currencies and API keys may have. A name cannot use invisible characters to look like another
-- one, control a terminal, or forge a line of a report. Names older than this rule stay.
--
-- Returns: _name_as_stored: the name; _name_is_clear: true or false, or NULL for NULL
-- Locks:   nothing
-- Raises:  nothing

create or replace function wallet._name_as_stored(p_name text)
    returns text
    language sql immutable
as $$
    select normalize(p_name, nfc)
$$;

comment on function wallet._name_as_stored(text) is
    'A name in Unicode normalization form C, as new names are stored: é is one character, however it was typed.';

-- Refused at any position: control characters (Cc), format characters (Cf), line and paragraph separators (Zl, Zp), and
-- letters and marks that are always invisible. Variation selectors, which emoji and Mongolian need, are allowed but,
-- like blanks, do not count as visible.
create or replace function wallet._name_is_clear(p_name text)
    returns boolean
    language sql immutable
as $$
    select
        p_name !~ (
            '[\u0001-\u001F\u007F-\u009F'
            || '\u00AD\u0600-\u0605\u061C\u06DD\u070F\u0890\u0891\u08E2\u180E\u200B-\u200F\u202A-\u202E\u2060-\u206F'
            || '\uFEFF\uFFF0-\uFFFB\U000110BD\U000110CD\U00013430-\U0001343F\U0001BCA0-\U0001BCA3'
            || '\U0001D173-\U0001D17A\U000E0000-\U000E00FF\U000E01F0-\U000E0FFF'
            || '\u2028\u2029'
            || '\u034F\u115F\u1160\u17B4\u17B5\u3164\uFFA0]'
        )
        and p_name ~ (
            '[^\u0020\u00A0\u1680\u2000-\u200A\u202F\u205F\u2800\u3000'
            || '\u180B-\u180D\u180F\uFE00-\uFE0F\U000E0100-\U000E01EF]'
        )
$$;

comment on function wallet._name_is_clear(text) is
    'Whether a name has a visible character, and no control, format or invisible characters.';
