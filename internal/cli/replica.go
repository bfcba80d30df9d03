package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/epitaph/epitaph"
	"github.com/epitaph/epitaph/connector"
	"github.com/epitaph/epitaph/connector/rows"
	"github.com/epitaph/epitaph/plan"
	"github.com/epitaph/epitaph/policy"
)

// replicaLimit is how long a replica may take to say how far it is behind.
const replicaLimit = 10 * time.Second

// checkReplicas asks the copies of stores that a purge would wait for. One that
// does not say how far it is behind is a fault: a purge would wait until it does.
func (s *stores) checkReplicas(ctx context.Context, pol *policy.Policy) (found []epitaph.Finding) {
	for i := range pol.Stores {
		of := &pol.Stores[i]
		r := s.replicas[of.Name]
		if r == nil {
			continue
		}
		limited, cancel := context.WithTimeout(ctx, replicaLimit)
		lag, err := r.Lag(limited)
		cancel()
		f := connector.Finding{Subject: "store " + of.Name}
		var known *rows.ReplicaError
		switch {
		case errors.As(err, &known):
			f.Severity, f.Text, f.Hint = connector.Fault, "the replica of store "+of.Name+" does not tell how far it is behind: "+known.Text, known.Hint
		case err != nil:
			f.Severity = connector.Fault
			f.Text = fmt.Sprintf("the replica of store %s could not be asked how far it is behind (error type %s)", of.Name, plan.ErrorType(err))
			f.Hint = "is it up, and may this user connect? While it is not, a purge waits"
		case lag > of.Pace.Lag:
			f.Text = fmt.Sprintf("the replica of store %s is %s behind: a purge waits until it is at most %s", of.Name, lag.Round(time.Second), of.Pace.Lag)
		default:
			continue
		}
		found = append(found, epitaph.Finding{Pos: of.Pos, Finding: f})
	}
	return found
}
