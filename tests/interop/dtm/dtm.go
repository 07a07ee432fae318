//go:build tools

// Package dtm names the program that is built here.
package dtm

import _ "github.com/dtm-labs/dtm"
