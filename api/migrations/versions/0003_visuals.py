"""Messages that were sent to topics, and overrides of rooms' screens"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "messages",
        sa.Column("number", number, autoincrement=True, nullable=False),
        sa.Column("topic", sa.String(length=512), nullable=False),
        sa.Column("message_id", sa.String(length=128), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("source", sa.String(length=160), nullable=False),
        sa.Column("stored_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_messages")),
        sa.UniqueConstraint("topic", "message_id", name=op.f("uq_messages_topic")),
    )
    op.create_index("ix_messages_newest", "messages", ["at", "number"])
    op.create_index("ix_messages_of_topic", "messages", ["topic", "at", "number"])
    op.create_table(
        "overrides",
        sa.Column("id", sa.String(length=26), nullable=False),
        sa.Column("room", sa.String(length=64), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("link", sa.Text(), nullable=True),
        sa.Column("since", sa.Double(), nullable=False),
        sa.Column("until", sa.Double(), nullable=False),
        sa.Column("author", sa.String(length=128), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("shown_at", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_overrides")),
    )
    op.create_index(op.f("ix_overrides_room"), "overrides", ["room"])
    op.create_index(op.f("ix_overrides_until"), "overrides", ["until"])
