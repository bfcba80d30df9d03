// Package epitaph is the library's front door.
package epitaph
