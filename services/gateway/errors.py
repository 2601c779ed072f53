"""What can go wrong in the gateway. Refusals of single requests are `services.common.problem.Problem`s instead."""


class GatewayError(Exception):
    """Root of everything that the gateway raises on purpose."""


class BrokerUnreachable(GatewayError):
    """The broker did not answer, or does not have the log yet. Try again."""


class LogCut(GatewayError):
    """The log ends, or went on, before what was acknowledged from it. An operator must mend it."""


class ProducerBroken(GatewayError):
    """The Kafka client gave up for good; a new process starts with a new one."""


class EndsNotKept(GatewayError):
    """The region's own disk does not take the acknowledged ends; a new process looks at it again."""
