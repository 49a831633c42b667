package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// The picture, in pixels: both axes are logarithmic, so that what is linear has the slope of the dashed lines.
const (
	plotWidth, plotHeight = 860, 520
	plotLeft, plotTop     = 70, 20
	plotRight, plotBottom = 560, 470
)

// plot draws series as an SVG.
func plot(all []*series) string {
	all = slices.DeleteFunc(slices.Clone(all), func(s *series) bool { return len(s.points) == 0 })
	var most, least, large float64 = 1, 1, 10
	for _, s := range all {
		most, least = max(most, slices.Max(s.points)), min(least, slices.Min(s.points))
		large = max(large, float64(slices.Max(s.at)))
	}
	x := func(n float64) float64 { return plotLeft + (plotRight-plotLeft)*math.Log(n)/math.Log(large*1.5) }
	low, high := math.Log(least/2), math.Log(most*2)
	y := func(t float64) float64 { return plotBottom - (plotBottom-plotTop)*(math.Log(t)-low)/(high-low) }

	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n"+
		`<rect width="100%%" height="100%%" fill="white"/>`+"\n", plotWidth, plotHeight)
	for n := 1.0; n <= large*1.5; n *= 10 {
		fmt.Fprintf(&b, `<path d="M%.1f %d V%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%.0f</text>`+"\n",
			x(n), plotTop, plotBottom, x(n), plotBottom+18, n)
	}
	for t := 0.0001; t <= most*2; t *= 10 {
		if t < least/2 {
			continue
		}
		fmt.Fprintf(&b, `<path d="M%d %.1f H%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			plotLeft, y(t), plotRight, plotLeft-6, y(t)+4, short(t))
	}
	colours := []string{"#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf"}
	for i, s := range all {
		colour := colours[i%len(colours)]
		var line strings.Builder
		for k, n := range s.at {
			fmt.Fprintf(&line, "%c%.1f %.1f ", "ML"[min(k, 1)], x(float64(n)), y(s.points[k]))
			fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>`+"\n", x(float64(n)), y(s.points[k]), colour)
		}
		last := len(s.at) - 1
		linear := s.points[0] * float64(s.at[last]) / float64(s.at[0])
		end, until := y(linear), float64(s.at[last])
		if linear > most*2 { // the line leaves the picture
			end, until = y(most*2), float64(s.at[0])*most*2/s.points[0]
		}
		fmt.Fprintf(&b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/><path d="M%.1f %.1f L%.1f %.1f" stroke="%s" stroke-dasharray="2 4"/>`+"\n",
			line.String(), colour, x(float64(s.at[0])), y(s.points[0]), x(until), end, colour)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", plotRight+16, plotTop+20+18*i, colour, s.name)
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">how many; dashed: linear from the first point</text>`+"\n</svg>\n", (plotLeft+plotRight)/2, plotHeight-12)
	return b.String()
}
