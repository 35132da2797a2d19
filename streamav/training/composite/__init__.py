"""Makes composite scenes: photos shown on backdrops and sounds played over ambience, with exact onsets and offsets."""
