-- The settings of psql, if `server.py psql` or `make psql` opens it. -X leaves them out, and PSQLRC names another file.

\set quiet_before :QUIET
\set QUIET on

-- A row that is wider than the terminal is shown a column a line.
\x auto

-- A refusal is one line, without the lines of the function that raised it.
\set SHOW_CONTEXT never

\set QUIET :quiet_before
\unset quiet_before

-- Set for a session on a terminal only: what a script reads begins with no hint.
\if :{?wallet_hint}
\echo 'You are' :USER 'in the database' :DBNAME'. What you make is recorded under this name (made_by).'
\echo 'Each statement is a transaction, unless you begin one. After a refusal, \\errverbose shows its code.'
\echo '\\df wallet.[a-z]* lists the functions, \\df+ wallet.make_payment describes one. Examples: docs/recipes.md'
\unset wallet_hint
\endif

-- Your own settings come last.
\set has_own `test -r ~/.psqlrc && echo on || echo off`
\if :has_own
\i ~/.psqlrc
\endif
\unset has_own
