-- What only a server with the contrib modules, ICU and lz4 has.
CREATE SCHEMA ext;
CREATE EXTENSION citext WITH SCHEMA ext;
CREATE EXTENSION hstore WITH SCHEMA "Odd Schema";
CREATE EXTENSION btree_gist;
CREATE EXTENSION pg_trgm WITH SCHEMA ext;
CREATE COLLATION helper.case_blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE "Odd Schema".contrib (
    id ext.citext PRIMARY KEY,
    attributes "Odd Schema".hstore DEFAULT ''::"Odd Schema".hstore,
    room integer,
    during tstzrange,
    name text COLLATE helper.case_blind,
    german text COLLATE "de-x-icu",
    note text,
    EXCLUDE USING gist (room WITH =, during WITH &&)
);
ALTER TABLE "Odd Schema".contrib ALTER note SET COMPRESSION lz4;
CREATE INDEX by_trigrams ON "Odd Schema".contrib USING gin (note ext.gin_trgm_ops);
