-- GET of the URL that wrk was given.
dofile("common.lua")
