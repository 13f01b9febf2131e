CREATE EXTENSION hstore SCHEMA app; CREATE EXTENSION citext SCHEMA app; CREATE EXTENSION ltree SCHEMA app;
CREATE TABLE app.extended (id int PRIMARY KEY, n int, c_hstore app.hstore, c_citext app.citext, c_ltree app.ltree, c_xml xml);
ALTER TABLE app.extended ALTER c_hstore SET STORAGE EXTERNAL, ALTER c_citext SET STORAGE EXTERNAL,
    ALTER c_ltree SET STORAGE EXTERNAL, ALTER c_xml SET STORAGE EXTERNAL;
