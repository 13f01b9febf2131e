CREATE TYPE app.mood AS ENUM ('sad', 'ok', 'very happy');
CREATE TYPE app.addr AS (street text, zip int, at timestamptz, span interval, raw bytea, ratio float8);
CREATE DOMAIN app.amount AS numeric(8,3);
CREATE DOMAIN app.short AS varchar(10);
CREATE TABLE app.numbers (
    id int PRIMARY KEY, c_int2 int2, c_int4 int4, c_int8 int8, c_oid oid, c_real real, c_double float8, c_num numeric,
    c_num2 numeric(10,2), c_neg numeric(5,-2), c_amount app.amount, c_money money, c_bool bool, c_xid8 xid8,
    c_lsn pg_lsn, c_def int DEFAULT 42, c_gen int GENERATED ALWAYS AS (c_int4 + 1) STORED);
CREATE TABLE app.times (
    id int PRIMARY KEY, c_date date, c_ts timestamp, c_ts3 timestamp(3), c_ts0 timestamp(0), c_tstz timestamptz,
    c_tstz0 timestamptz(0), c_time time, c_time3 time(3), c_span interval, c_span3 interval day to second(3));
CREATE TABLE app.texts (
    id int PRIMARY KEY, c_text text, c_varchar varchar(20), c_short app.short, c_char char(5), c_qchar "char", c_name name,
    c_bytea bytea, c_bit1 bit(1), c_bit9 bit(9), c_uuid uuid, c_json json, c_jsonb jsonb, c_mood app.mood, c_inet inet,
    c_cidr cidr, c_mac macaddr, c_mac8 macaddr8, c_tsv tsvector, c_tsq tsquery, c_path jsonpath, c_comp app.addr,
    c_tid tid);
CREATE TABLE app.shapes (
    id int PRIMARY KEY, c_point point, c_line line, c_lseg lseg, c_box box, c_path path, c_poly polygon,
    c_circle circle, c_i4r int4range, c_i8r int8range, c_numr numrange, c_tsr tsrange, c_tzr tstzrange, c_dr daterange,
    c_i4m int4multirange, c_tzm tstzmultirange);
CREATE TABLE app.arrays (
    id int PRIMARY KEY, c_int2 int2[], c_int4 int4[], c_int8 int8[], c_f4 real[], c_f8 float8[], c_bool bool[],
    c_text text[], c_varchar varchar(9)[], c_char char(4)[], c_uuid uuid[], c_json json[], c_jsonb jsonb[],
    c_bytea bytea[]);
ALTER TABLE app.arrays REPLICA IDENTITY FULL;
CREATE TABLE app.toast (
    id int PRIMARY KEY, n int, c_text text, c_varchar varchar, c_char char(9000), c_json json, c_jsonb jsonb,
    c_tsv tsvector, c_num numeric, c_bytea bytea, c_numr numrange, c_i4m int4multirange, c_poly polygon, c_path path,
    c_jsonpath jsonpath, c_comp app.addr, c_texts text[], c_ints int[], c_longs bigint[], c_uuids uuid[],
    c_jsonbs jsonb[], c_byteas bytea[]);
CREATE TABLE app.toast_full (
    id int PRIMARY KEY, n int, c_text text, c_bit bit(20000), c_shorts int2[], c_doubles float8[], c_bools bool[]);
ALTER TABLE app.toast_full REPLICA IDENTITY FULL;
CREATE TABLE app.toast_key (k text PRIMARY KEY, n int, v text);
CREATE TABLE app.keyed (tenant text, "Order No" bigint, line smallint, qty int NOT NULL DEFAULT 7, big text,
    PRIMARY KEY (tenant, "Order No", line));
CREATE TABLE app.no_key (a int, b text);
ALTER TABLE app.no_key REPLICA IDENTITY FULL;
CREATE TABLE app."Odd Täble.x" ("Id" int PRIMARY KEY, "select" text, "ünï-code$" text);
CREATE TABLE app.parent (id int PRIMARY KEY, name text);
CREATE TABLE app.child (id int PRIMARY KEY, parent_id int REFERENCES app.parent ON DELETE CASCADE);
CREATE TABLE app.part (id int, created date, v text, PRIMARY KEY (id, created)) PARTITION BY RANGE (created);
CREATE TABLE app.part_2024 PARTITION OF app.part FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE app.part_2025 PARTITION OF app.part FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
DO $$ DECLARE r record; BEGIN
    FOR r IN SELECT attrelid::regclass AS t, attname FROM pg_attribute
        WHERE attrelid IN ('app.toast'::regclass, 'app.toast_full'::regclass, 'app.toast_key'::regclass,
                           'app.keyed'::regclass)
          AND attnum > 0 AND attstorage IN ('x', 'm')
    LOOP EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET STORAGE EXTERNAL', r.t, r.attname); END LOOP;
END $$;
