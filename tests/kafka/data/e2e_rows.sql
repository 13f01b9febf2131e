INSERT INTO app.numbers (id, c_real, c_double) VALUES
    (1, 'NaN', 'NaN'), (2, 'Infinity', '-Infinity'), (3, '-0', '-0'), (4, 1e-45, 5e-324), (5, 1234567, 1e15),
    (6, 123456, 1e16), (7, 0.0001, 0.0001), (8, 0.00001, 0.00001), (9, 16777216, 9007199254740993),
    (10, 3.4028235e38, 1e23), (11, 0.3, 0.1), (12, 1.17549435e-38, 2.2250738585072014e-308), (13, 1.2621775e-29, 1e22);
INSERT INTO app.numbers (id, c_num, c_num2, c_neg, c_amount, c_money) VALUES
    (20, 'NaN', 'NaN', 'NaN', 'NaN', 0), (21, 'Infinity', 0, 0, 0, -0.05), (22, '-Infinity', 1.5, -99900, -1.5, 1234.5),
    (23, 1e20, 99999999.99, 12345, 99999.999, '92233720368547758.07'), (24, 1.500, -0.01, 100, 0.001, '-92233720368547758.08'),
    (25, 0.000, 1, 1, 1, 1234567890123.99), (26, 1e-50, NULL, NULL, NULL, NULL), (27, 1e400, NULL, NULL, NULL, NULL);
INSERT INTO app.numbers (id, c_int2, c_int4, c_int8, c_oid, c_bool, c_xid8, c_lsn, c_def) VALUES
    (30, -32768, -2147483648, -9223372036854775808, 4294967295, true, '18446744073709551615', 'FF/16B374D8', NULL),
    (31, 32767, 2147483646, 9223372036854775807, 0, false, '3', '0/0', 42), (32, 0, 0, 0, 1, NULL, NULL, NULL, 0);
INSERT INTO app.times (id, c_date, c_ts, c_ts3, c_ts0, c_tstz, c_tstz0) VALUES
    (1, 'infinity', 'infinity', 'infinity', 'infinity', 'infinity', 'infinity'),
    (2, '-infinity', '-infinity', '-infinity', '-infinity', '-infinity', '-infinity'),
    (3, '0044-03-15 BC', '0044-03-15 12:00:00.5 BC', '0044-03-15 BC', '0044-03-15 BC', '0044-03-15 12:00:00+00 BC', NULL),
    (4, '1582-10-04', '1582-10-04 12:00', '1582-10-05', '1582-10-14', '1582-10-04 12:00+00', '1582-10-15+00'),
    (5, '5874897-12-31', '294246-12-31 23:59:59.999999', '294246-12-31', '294246-12-31', '294276-12-31 23:59:59.999999+00', NULL),
    (6, '4713-01-01 BC', '4713-01-01 BC', '4713-01-01 BC', '4713-01-01 BC', '4713-01-02 BC', NULL),
    (7, '0001-01-01', '0001-01-01 00:00:00.000001', '0001-01-01 00:00:00.001', '0001-01-01', '0001-01-01+00', '0001-01-01+00'),
    (8, '10000-01-01', '10000-01-01', '10000-01-01', '10000-01-01', '10000-01-01+00', '10000-01-01+00'),
    (9, '1969-12-31', '1969-12-31 23:59:59.999999', '1969-12-31 23:59:59.999', '1969-12-31 23:59:59', '1969-12-31 23:59:59.999999+00', NULL),
    (10, '2024-02-29', '2024-02-29 12:00:00.10', '2024-02-29 12:00:00.1', '2024-02-29 12:00', '2024-02-29 12:00:00.10+05:30', '2024-02-29 12:00-15:59');
INSERT INTO app.times (id, c_time, c_time3) VALUES
    (20, '24:00:00', '24:00:00'), (21, '00:00:00.000001', '23:59:59.999'), (22, '23:59:59.999999', '00:00');
INSERT INTO app.times (id, c_span) VALUES
    (30, '1 year 2 mons 3 days 04:05:06.789'), (31, '-1 year -2 mons +3 days -04:05:06.789'), (32, '0'),
    (33, '-00:00:00.000001'), (34, '1 mon -1 day'), (35, '178000000 years'), (36, '-178000000 years'),
    (38, '1 day -00:00:01'), (39, '100:00:00'), (40, '-1 mons'), (41, '11 mons'), (42, '-13 mons'), (43, '1 day'),
    (45, '00:00:00.1'), (46, '-23:59:59.999999'), (47, '2147483647 days 10:00:00.000009'), (48, '-2147483648 days'),
    (49, '-2147483648 mons'), (50, '2147483647 mons'), (51, '1 mon 00:00:01'), (52, '-1 mon +1 day 00:00:01'),
    (53, '-1 day +00:00:01'), (54, '-1 mon 00:00:01');
INSERT INTO app.times (id, c_span3) VALUES (60, '3 days 04:05:06.789'), (61, '-00:00:00.001');
INSERT INTO app.texts (id, c_text, c_varchar, c_short, c_char, c_qchar, c_name, c_bytea, c_bit1, c_bit9) VALUES
    (1, '', '', '', '', '', '', '\x', B'0', B'000000000'), (2, E'l\u00ednea 1\nline "2"\t\\ 日本 😀 \u0001', '日本😀', 'a', 'ab', 'q', 'nam', '\x00ff10', B'1', B'000000001'),
    (3, 'NULL', 'null', NULL, 'NULL', '\377', 'é', decode(repeat('ab', 400), 'hex'), NULL, B'100000000'),
    (4, '__debezium_unavailable_value', '\N', 'tab	x', 'é', 'é', 'n', '\x5c', B'1', B'111111111');
INSERT INTO app.texts (id, c_uuid, c_json, c_jsonb, c_mood, c_inet, c_cidr, c_mac, c_mac8, c_tsv, c_tsq, c_path, c_comp, c_tid) VALUES
    (10, 'A0EEBC99-9c0b-4ef8-bb6d-6bb9bd380a11', '{"b": 1,  "a": [1,2], "b": 2, "e":1e400}', '{"b": 1, "a": [1, 2.50], "n": 12345678901234567890.123}',
     'very happy', '::1/128', '10/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', 'a fat cat', 'fat & rat', '$.a[*] ? (@ > 1)',
     row('a"b \ c', 5, '2024-01-01 00:00+05:30', '1 mon 2 days 03:00', '\x00ff', 0.1::float8 + 0.2::float8), '(0,1)'),
    (11, NULL, 'null', 'null', 'ok', '192.168.1.5/24', '::/0', NULL, NULL, '', '', '$', row('', NULL, NULL, NULL, NULL, NULL), NULL);
INSERT INTO app.shapes VALUES
    (1, '(1.5,-2.5)', '{1,2,3}', '[(0,0),(1,1)]', '((0,0),(1,1))', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '<(0,0),5>',
     '[1,10)', '[1,10]', '[1.50,2.5)', '["2024-01-01 00:00","2024-01-02 00:00")', '["2024-01-01 00:00+05:30","2024-01-02 00:00:00.5+00")',
     '[2024-01-01,2024-02-01)', '{[1,3),[5,7)}', '{["2024-01-01 00:00:00-03","2024-01-02 00:00:00+00")}'),
    (2, '(1e300,-0)', '{0.1,1e23,-1}', '[(1e-10,1e16),(NaN,1)]', '((Infinity,0),(1,1))', '((0.3,0),(1,1),(2,0))',
     '((0.1,1e15),(1,1),(2,0))', '<(0.1,0),1e20>', 'empty', '(,)', '(,)', '(,infinity]', '[-infinity,)', '(,)', '{}', '{(,)}'),
    (3, '(NaN,Infinity)', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO app.arrays VALUES
    (1, '{1,-32768,NULL}', '{1,NULL,-2147483648}', '{9223372036854775807}', '{NaN,0.3,1e-45,3.4028235e38,-0,NULL}',
     '{NaN,Infinity,-Infinity,-0,1e23,NULL}', '{t,f,NULL}', '{"","NULL",NULL,"a b","a,b","a\"b","a\\b","{x}",tab	x,null2}',
     '{a,"b c"}', '{a,"bb"}', '{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}', array['{"a":  1}'::json],
     array['{"a": 1}'::jsonb, 'null', NULL], '{"\\x00ff","\\x",NULL}'),
    (2, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}'),
    (3, '{NULL}', NULL, NULL, NULL, NULL, NULL, '{NULL}', NULL, NULL, NULL, NULL, NULL, NULL);
UPDATE app.arrays SET c_text = NULL WHERE id = 1;
INSERT INTO app.toast SELECT 1, 1, repeat('a', 9000), repeat('b', 9000), repeat('c', 9000), to_json(repeat('d', 9000)),
    to_jsonb(repeat('e', 9000)), (SELECT string_agg('w' || i, ' ') FROM generate_series(1, 2000) i)::tsvector,
    repeat('1234567890', 900)::numeric, decode(repeat('ab', 9000), 'hex'), ('[' || repeat('1', 5000) || ',)')::numrange,
    (SELECT ('{' || string_agg('[' || i * 10 || ',' || i * 10 + 5 || ')', ',') || '}')::int4multirange FROM generate_series(1, 1000) i),
    (SELECT ('(' || string_agg('(' || i || ',1)', ',') || ')')::polygon FROM generate_series(1, 500) i),
    (SELECT ('[' || string_agg('(' || i || ',1)', ',') || ']')::path FROM generate_series(1, 500) i),
    ('$."' || repeat('x', 9000) || '"')::jsonpath, row(repeat('s', 9000), 1, '2024-01-01Z', '1 day', '\x00', 1.5)::app.addr,
    array[repeat('a', 9000)], array_fill(1, array[4000]), array_fill(1::bigint, array[4000]),
    array_fill('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, array[4000]), array[to_jsonb(repeat('e', 9000))],
    array[decode(repeat('ab', 9000), 'hex')];
UPDATE app.toast SET n = 2;
UPDATE app.toast SET n = n;
UPDATE app.toast SET c_text = NULL, c_num = 0, c_ints = '{}';
UPDATE app.toast SET id = 2;
UPDATE app.toast SET id = 3, c_bytea = '\x01';
INSERT INTO app.toast_full SELECT 1, 1, repeat('a', 9000), repeat('10', 10000)::bit(20000), array_fill(1::int2, array[4000]),
    array_fill(1.5::float8, array[4000]), array_fill(true, array[4000]);
UPDATE app.toast_full SET n = 2;
UPDATE app.toast_full SET c_shorts = NULL;
UPDATE app.toast_full SET id = 2;
DELETE FROM app.toast_full;
INSERT INTO app.toast_key VALUES (repeat('k', 2500), 1, repeat('v', 9000));
UPDATE app.toast_key SET n = 2;
UPDATE app.toast_key SET k = repeat('l', 2500);
DELETE FROM app.toast_key;
INSERT INTO app.keyed VALUES ('t1', 9007199254740993, 1, 5, repeat('B', 9000)), ('t1', 9007199254740993, 2, 6, NULL);
UPDATE app.keyed SET qty = 8 WHERE line = 1;
UPDATE app.keyed SET line = line + 10;
DELETE FROM app.keyed WHERE line = 11;
INSERT INTO app.no_key VALUES (1, 'x'), (1, 'x'), (NULL, NULL);
UPDATE app.no_key SET b = 'y' WHERE a = 1;
DELETE FROM app.no_key WHERE a = 1;
INSERT INTO app."Odd Täble.x" VALUES (2, 'kw', 'ü');
UPDATE app."Odd Täble.x" SET "select" = 'kw2';
DELETE FROM app."Odd Täble.x";
BEGIN; INSERT INTO app.parent VALUES (1, 'p'); INSERT INTO app.child VALUES (1, 1), (2, 1); SAVEPOINT s; INSERT INTO app.child VALUES (3, 1); ROLLBACK TO s; UPDATE app.parent SET name = 'p2'; UPDATE app.parent SET name = 'p3'; SELECT pg_logical_emit_message(true, 'in', 'side'); COMMIT;
BEGIN; INSERT INTO app.parent VALUES (9, 'rolled back'); ROLLBACK;
BEGIN; INSERT INTO app.parent VALUES (5, 'born'); DELETE FROM app.parent WHERE id = 5; COMMIT;
DELETE FROM app.parent;
INSERT INTO app.parent VALUES (7, 't'); INSERT INTO app.child VALUES (7, 7);
TRUNCATE app.child, app.parent RESTART IDENTITY CASCADE;
INSERT INTO app.part VALUES (3, '2024-06-06', 'new'); UPDATE app.part SET v = 'upd'; UPDATE app.part SET created = '2025-06-06'; DELETE FROM app.part;
INSERT INTO app.part VALUES (4, '2024-06-06', 'x'); TRUNCATE app.part_2024;
SELECT pg_logical_emit_message(true, 'bin', '\x00ff10'::bytea);
SELECT pg_logical_emit_message(true, 'empty', '');
BEGIN; INSERT INTO app.parent VALUES (60, 'two-phase'); PREPARE TRANSACTION 'gid-e2e';
COMMIT PREPARED 'gid-e2e';
INSERT INTO app.parent VALUES (61, 'last');
