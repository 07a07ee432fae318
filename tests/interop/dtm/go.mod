// The released server of DTM, built from the module proxy: see ../test_sdk_on_go_dtm.py.
module reefknot.test/dtm

go 1.22

require github.com/dtm-labs/dtm v1.19.0
