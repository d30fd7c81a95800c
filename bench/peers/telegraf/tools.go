//go:build tools

// Package telegraf pins the Telegraf that log-shipper is measured against.
package telegraf

import _ "github.com/influxdata/telegraf/cmd/telegraf"
