module tierloom.test/reader

go 1.21
