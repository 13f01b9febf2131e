SET search_path = app;
INSERT INTO app.extended VALUES
    (1, 1, 'a=>NULL, bb=>"q\"uo\\te", "c c"=>"", z=>"null", "é"=>"日本"', 'CiText', 'top.sci.astro', '<a x="1">t</a>'),
    (2, 1, '', '', '', NULL),
    (3, 1, hstore('k', repeat('v', 9000)), repeat('C', 9000), (repeat('a.', 3000) || 'b')::ltree, ('<a>' || repeat('g', 9000) || '</a>')::xml);
UPDATE app.extended SET n = 2;
