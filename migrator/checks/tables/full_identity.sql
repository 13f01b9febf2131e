-- name: without_equality
-- A type compares through its own operator class or that of the type it is binary-coercible to (varchar, text).
SELECT t.oid::int8
FROM pg_type t
WHERE t.oid = ANY (%s) AND NOT EXISTS (
    SELECT FROM pg_opclass o
    JOIN pg_am m ON m.oid = o.opcmethod AND m.amname IN ('btree', 'hash')
    WHERE o.opcdefault AND (o.opcintype = t.oid OR o.opcintype IN (
        SELECT c.casttarget FROM pg_cast c
        WHERE c.castsource = t.oid AND c.castmethod = 'b' AND c.castcontext = 'i'
    ))
)
