// Reads Grafana's boards as the types of its own schema have them, options of panels and queries of Prometheus too: a field that is
// misspelt, of another type, missing or at another place is named. Grafana would leave it out without a word.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/bargauge"
	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/variants"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/statetimeline"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

// The kinds of panels that boards have. Options of others would be taken unread, so they are refused.
var kinds = []variants.PanelcfgConfig{
	bargauge.VariantConfig(), stat.VariantConfig(), statetimeline.VariantConfig(), table.VariantConfig(), timeseries.VariantConfig(),
}

func main() {
	runtime := cog.NewRuntime()
	known := map[string]bool{"row": true}
	for _, kind := range kinds {
		runtime.RegisterPanelcfgVariant(kind)
		known[kind.Identifier] = true
	}
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())
	failed := false
	for _, path := range os.Args[1:] {
		for _, problem := range problems(path, known) {
			fmt.Fprintf(os.Stderr, "%s: %s\n", path, problem)
			failed = true
		}
	}
	if failed || len(os.Args) == 1 {
		os.Exit(1)
	}
}

func problems(path string, known map[string]bool) []string {
	text, err := os.ReadFile(path)
	if err != nil {
		return []string{err.Error()}
	}
	var found []string
	var panels struct{ Panels []struct{ Type string } }
	if err := json.Unmarshal(text, &panels); err != nil {
		return []string{err.Error()}
	}
	for _, panel := range panels.Panels {
		if !known[panel.Type] {
			found = append(found, fmt.Sprintf("a panel of the kind %q: name it in tests/grafana/main.go", panel.Type))
		}
	}
	board := dashboard.Dashboard{}
	// Both return an error without a text where nothing is wrong.
	for _, check := range []func() error{func() error { return board.UnmarshalJSONStrict(text) }, board.Validate} {
		if err := check(); err != nil && err.Error() != "" {
			found = append(found, err.Error())
		}
	}
	return found
}
