package objects

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/epitaph/epitaph/connector"
)

// class is what a failed request means for us.
type class uint8

const (
	fine     class = iota
	throttle       // the server asks to slow down: again, later and with less
	passing        // may pass by itself: again
	denied         // the store denies us
	absent         // the server has no such function or document
	changed        // a condition of the request does not hold
	broken         // anything else: asking again would not help
)

// classify reads the class of a request's error.
func classify(err error) class {
	if err == nil {
		return fine
	}
	var api smithy.APIError
	if errors.As(err, &api) {
		if c := classOfCode(api.ErrorCode()); c != broken {
			return c
		}
	}
	switch s := status(err); {
	case s == http.StatusServiceUnavailable, s == http.StatusTooManyRequests:
		return throttle
	case s == http.StatusNotImplemented, s == http.StatusMethodNotAllowed:
		return absent
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		return denied
	case s == http.StatusPreconditionFailed, s == http.StatusConflict:
		return changed
	case s >= 500, s == http.StatusRequestTimeout:
		return passing
	case s >= 300:
		return broken
	}
	switch {
	case errors.Is(err, errFuse):
		return passing
	case errors.Is(err, errReadOnly), errors.Is(err, errOther), errors.Is(err, errMissing), errors.Is(err, errUnconfirmed),
		errors.Is(err, errFolded):
		return broken
	}
	var odd *oddAnswer
	var stuck *listingError
	var sent *smithyhttp.RequestSendError
	var cut *smithy.DeserializationError
	switch {
	case errors.As(err, &odd), errors.As(err, &stuck), errors.As(err, &api), errors.Is(err, context.Canceled):
		return broken
	case errors.As(err, &sent), errors.As(err, &cut), errors.Is(err, errAnswerCut), errors.Is(err, context.DeadlineExceeded):
		return passing
	}
	return denied // never sent: there are no credentials to sign it with
}

func classOfCode(code string) class {
	switch code {
	case "SlowDown", "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
		"RequestLimitExceeded", "BandwidthLimitExceeded", "TooManyRequestsException", "TooManyRequests",
		"PriorRequestNotComplete", "ServiceUnavailable", "Busy", "ReduceYourRequestRate":
		return throttle
	case "InternalError", "InternalFailure", "RequestTimeout", "RequestTimeoutException", "OperationAborted":
		return passing
	case "AccessDenied", "AccessDeniedException", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken",
		"ExpiredTokenException", "InvalidToken", "TokenRefreshRequired", "AllAccessDisabled", "AccountProblem", "NotSignedUp",
		"RequestTimeTooSkewed", "UnauthorizedAccess", "InvalidSecurity", "AuthFailure", "RequestExpired":
		return denied
	case "NotImplemented", "MethodNotAllowed", "ObjectLockConfigurationNotFoundError", "NoSuchObjectLockConfiguration",
		"VersioningNotConfigured", "XNotImplemented":
		return absent
	case "PreconditionFailed", "ConditionalRequestConflict":
		return changed
	}
	return broken
}

// errFuse answers for what was not tried because the store had failed several
// times in a row.
var errFuse = errors.New("the store did not answer the requests before this one")

// noBucket reports that the bucket is not there: nothing can be said of what
// was in it.
func noBucket(err error) bool { return hasCode(err, "NoSuchBucket") }

// hasCode reports that the server answered with the error code.
func hasCode(err error, code string) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == code
}

// reason is the code that a failed request gives to what it was about.
func reason(err error) connector.Reason {
	if classify(err) == denied {
		return connector.NoPermission
	}
	return connector.Unreachable
}

// unknown is the result of a thing that could not be looked at.
func unknown(err error) connector.Result {
	return connector.Result{State: connector.Unknown, Reason: reason(err), Err: err}
}

// call makes one request, and makes it again while its failure may pass. Every
// request the connector makes can be repeated without harm.
func (c *Connector) call(ctx context.Context, timeout time.Duration, f func(context.Context) error) error {
	for attempt := 1; ; attempt++ {
		if err := c.gate.enter(ctx); err != nil {
			return err
		}
		once, cancel := context.WithTimeout(ctx, timeout)
		err := f(once)
		cancel()
		k := classify(err)
		c.gate.leave(k == throttle)
		if k != throttle && k != passing || attempt >= c.o.Attempts || ctx.Err() != nil {
			return explained(err)
		}
		if c.o.Sleep(ctx, c.backoff(attempt)) != nil {
			return explained(err)
		}
	}
}

// backoff is a random time up to 100 ms doubled for each attempt, at most 20 s
// (full jitter), so that many clients do not come back together.
func (c *Connector) backoff(attempt int) time.Duration {
	most := min(20*time.Second, 100*time.Millisecond<<min(attempt-1, 10))
	return most/10 + time.Duration(c.o.Jitter()*float64(most)*0.9)
}
